"""What a benchmark's gate adds to the stack of a model file with components, with a queue, or without a benchmark."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stacks.benchmark import BenchmarkStack
from stacks.foundation import FoundationStack
from stacks.serving import ServingStack
from tests.cdk import FLAGS, IMAGE, App, Synthesized, plan
from tests.hosting_files import COMPONENTS, QUEUED, planned, spec_of
from tests.judges import add_nag


def test_the_gate_measures_the_component_that_it_names_once_all_are_there(tmp_path: Path) -> None:
    spec, app = spec_of(tmp_path, "components", COMPONENTS), App(outdir=str(tmp_path / "assembly"), context=FLAGS)
    gated = replace(plan().benchmark or pytest.fail("a plan with a benchmark"), inference_component="small")
    made = replace(planned(spec), benchmark=gated, gate_digest="c3" * 32)
    foundation = FoundationStack(app, "heavylift-foundation")

    ServingStack(
        app, "components", plan=made, model_file="x.yaml", foundation=foundation, image=IMAGE, spec=spec
    )  # fmt: skip
    app.synth()

    template = Synthesized(tmp_path / "assembly").json("components")["Resources"]
    (gate,) = [each for each in template.values() if each["Type"] == "Custom::HeavyliftBenchmarkGate"]
    components = {id for id, each in template.items() if each["Type"] == "AWS::SageMaker::InferenceComponent"}
    assert len(components) == 3
    assert components <= set(gate["DependsOn"])
    assert json.loads(gate["Properties"]["Benchmark"])["inference_component"] == "small"
    (small,) = [
        each["Properties"]
        for each in template.values()
        if each["Type"] == "AWS::SageMaker::InferenceComponent"
        and each["Properties"].get("InferenceComponentName") == "small"
    ]
    assert gate["Properties"]["InferenceComponentModel"] == small["Specification"]["ModelName"]
    policies = json.dumps([each for each in template.values() if each["Type"] == "AWS::IAM::Policy"])
    assert ":inference-component/small" in policies


def test_the_gate_of_an_asynchronous_endpoint_may_ask_through_s3_and_no_other_way(tmp_path: Path) -> None:
    spec, app = spec_of(tmp_path, "queued", QUEUED), App(outdir=str(tmp_path / "assembly"), context=FLAGS)
    add_nag(app)
    gated = replace(plan().benchmark or pytest.fail("a plan with a benchmark"), asynchronous=True)
    made = replace(planned(spec), benchmark=gated, gate_digest="c3" * 32)
    foundation = FoundationStack(app, "heavylift-foundation")

    ServingStack(app, "queued", plan=made, model_file="x.yaml", foundation=foundation, image=IMAGE, spec=spec)
    BenchmarkStack(app, "queued-benchmark", plan=made, foundation=foundation, schedule=None, spec=spec)
    app.synth()

    template = Synthesized(tmp_path / "assembly")
    for stack in ("queued", "queued-benchmark"):
        by_action: dict[str, list[Any]] = {}
        for row in template.statements(stack):
            for action in row["Action"] if isinstance(row["Action"], list) else [row["Action"]]:
                by_action.setdefault(action, []).append(row["Resource"])
        assert "sagemaker:InvokeEndpointAsync" in by_action
        assert not {"sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"} & by_action.keys()
        written = json.dumps(by_action["s3:PutObject"])
        assert ":s3:::results/model/benchmark-inputs/*" in written
        assert ":s3:::results/model/*" in json.dumps(by_action["s3:GetObject"])
        assert ":s3:::results" in json.dumps(by_action["s3:ListBucket"])
    (config,) = [
        each["Properties"]["AsyncInferenceConfig"]["OutputConfig"]
        for each in template.json("queued")["Resources"].values()
        if each["Type"] == "AWS::SageMaker::EndpointConfig"
    ]
    assert config["S3FailurePath"] == "s3://results/model/failed/"
    (gate,) = [
        each["Properties"]
        for each in template.json("queued")["Resources"].values()
        if each["Type"] == "Custom::HeavyliftBenchmarkGate"
    ]
    assert json.loads(gate["Benchmark"])["asynchronous"] is True
