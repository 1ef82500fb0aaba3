"""A model partitioned ahead of time in the embedded AWS: a real job of our runtime, and its artifact, served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift.deploy.stacks import FOUNDATION
from heavylift.plan.lock import Lock
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.weights.inspect import inspect
from heavylift.weights.push import push, push_config
from heavylift.weights.store import Folder
from tests.cdk import FLAGS, IMAGE, App, Synthesized
from tests.conftest import ROOT
from tests.embedded import Deployed, Embedded, start_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SERVING = "heavylift-tiny-t5"
ASKED = "\npartition: {when: ahead_of_time}\n"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with start_embedded(tmp_path_factory.mktemp("embedded")) as running:
        yield running


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-t5 without its benchmark: what is measured elsewhere."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "models" / "tiny-t5", folder / "tiny-t5")
    text = (ROOT / "models" / "tiny-t5.yaml").read_text().partition("benchmark:")[0]
    (folder / "tiny-t5.yaml").write_text(text + ASKED)
    return folder


def planned(models: Path, **changes: Any) -> tuple[Plan, Lock, ModelSpec]:
    spec = ModelSpec.from_yaml(models / "tiny-t5.yaml").model_copy(update=changes)
    lock = inspect(spec, models)
    return Plan.fit(spec, lock), lock, spec


def synthesized(folder: Path, plan: Plan, spec: ModelSpec) -> Synthesized:
    from stacks.foundation import FoundationStack
    from stacks.serving import ServingStack

    app = App(outdir=str(folder), context=FLAGS)
    foundation = FoundationStack(app, FOUNDATION)
    ServingStack(
        app, SERVING, plan=plan, model_file="models/tiny-t5.yaml", foundation=foundation, image=IMAGE, spec=spec
    )
    app.synth()
    return Synthesized(folder)


def deploy(
    embedded: Embedded,
    models: Path,
    folder: Path,
    spoil: Callable[[dict[str, Any]], None] = lambda template: None,
    **changes: Any,
) -> tuple[Plan, Deployed]:
    """Foundation, weights, serving stack: as `heavylift deploy` does it; `spoil` changes the last one's template."""
    plan, lock, spec = planned(models, **changes)
    made = synthesized(folder, plan, spec)
    if not embedded.client("s3").list_buckets()["Buckets"]:  # the foundation is the same whatever the model is
        embedded.deploy(FOUNDATION, made.json(FOUNDATION), made.folder)
    bucket = bucket_of(embedded)
    s3 = embedded.client("s3")
    push(plan, lock, Folder(models / "tiny-t5"), bucket, s3)
    push_config(plan, models, bucket, s3)
    template = made.json(SERVING)
    spoil(template)
    return plan, embedded.deploy(SERVING, template, made.folder)


def bucket_of(embedded: Embedded) -> str:
    (stack,) = embedded.client("cloudformation").describe_stacks(StackName=FOUNDATION)["Stacks"]
    return next(str(row["OutputValue"]) for row in stack["Outputs"] if row["OutputKey"] == "WeightsBucketName")


def ask(embedded: Embedded) -> list[str]:
    body = {"inputs": ["write as a Roman numeral: 1994"], "parameters": {"max_new_tokens": 32}}
    reply = embedded.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="tiny-t5", ContentType="application/json", Body=json.dumps(body)
    )
    outputs: list[str] = json.load(reply["Body"])["outputs"]
    return outputs


def jobs(embedded: Embedded) -> list[str]:
    folder = embedded.aws.home / "jobs"
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture(scope="module")
def first(embedded: Embedded, models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Deployed, Path]:
    folder = tmp_path_factory.mktemp("first")
    return *deploy(embedded, models, folder), folder


def test_a_model_is_partitioned_once_in_the_account_and_served_from_what_was_made(
    embedded: Embedded, first: tuple[Plan, Deployed, Path]
) -> None:
    plan, created, folder = first

    assert created.status == "CREATE_COMPLETE", created.events
    assert plan.job is not None
    s3, bucket = embedded.client("s3"), bucket_of(embedded)
    keys = [row["Key"] for row in s3.list_objects_v2(Bucket=bucket, Prefix="artifacts/")["Contents"]]
    assert f"{plan.job.prefix}rank-001-of-002.safetensors" in keys
    said = json.load(s3.get_object(Bucket=bucket, Key=f"artifacts/{plan.job.key}.json")["Body"])
    assert said == {"format": "heavylift.artifact/1", "key": plan.job.key, "made_for": plan.job.expected}
    assert ask(embedded) == ["MCMXCIV"]
    ran = jobs(embedded)
    assert len(ran) == 1
    (model,) = [
        each for each in json.loads((folder / f"{SERVING}.template.json").read_text())["Resources"].values()
        if each["Type"] == "AWS::SageMaker::Model"
    ]  # fmt: skip
    assert plan.job.prefix in json.dumps(model), "the container loads the artifact"


def test_a_deployment_whose_function_dies_of_its_jobs_end_fails_at_once_and_the_next_finds_what_was_made(
    embedded: Embedded, models: Path, first: tuple[Plan, Deployed, Path], tmp_path: Path
) -> None:
    ran = jobs(embedded)

    def forget_the_stack(template: dict[str, Any]) -> None:
        (function,) = [
            each["Properties"] for each in template["Resources"].values()
            if each.get("Properties", {}).get("Handler") == "lambdas.jobs.index.handler"
        ]  # fmt: skip
        del function["Environment"]["Variables"]["STACK"]

    _, refused = deploy(embedded, models, tmp_path / "spoilt", forget_the_stack, quantization="int8")

    assert refused.status == "UPDATE_ROLLBACK_COMPLETE", refused.events
    reasons = " ".join(event.get("ResourceStatusReason", "") for event in refused.events)
    assert "the function that looks after the processing job died, 3 tries (RetriesExhausted): 'STACK'" in reasons
    assert ask(embedded) == ["MCMXCIV"], "the old model serves"
    assert len(jobs(embedded)) == len(ran) + 1, "its job ran"

    _, updated = deploy(embedded, models, tmp_path / "sound", quantization="int8")

    assert updated.status == "UPDATE_COMPLETE", updated.events
    assert len(jobs(embedded)) == len(ran) + 1, "and no second one"
    assert len(ask(embedded)) == 1


def test_another_option_runs_no_job_another_degree_runs_one_and_a_failed_one_leaves_the_old_model_serving(
    embedded: Embedded, models: Path, first: tuple[Plan, Deployed, Path], tmp_path: Path
) -> None:
    job, ran = first[0].job, jobs(embedded)
    assert job is not None

    same, updated = deploy(embedded, models, tmp_path / "same", options={"max_new_tokens": 16})

    assert updated.status == "UPDATE_COMPLETE", updated.events
    assert same.job == job and jobs(embedded) == ran, "the artifact is there"
    assert ask(embedded) == ["MCMXCIV"]

    other, updated = deploy(embedded, models, tmp_path / "other", tensor_parallel_degree=1)

    assert updated.status == "UPDATE_COMPLETE", updated.events
    assert other.job is not None and other.job.key != job.key
    assert len(jobs(embedded)) == len(ran) + 1
    assert ask(embedded) == ["MCMXCIV"]

    bucket = bucket_of(embedded)
    wrong = {"key": "00" * 32, "made_for": {"tensor_parallel_degree": 8}}
    broken, _, _ = planned(models, tensor_parallel_degree=4)
    assert broken.job is not None
    embedded.client("s3").put_object(
        Bucket=bucket, Key=f"artifacts/{broken.job.key}.json", Body=json.dumps(wrong).encode()
    )
    _, refused = deploy(embedded, models, tmp_path / "broken", tensor_parallel_degree=4)

    assert refused.status == "UPDATE_ROLLBACK_COMPLETE", refused.events
    reasons = " ".join(event.get("ResourceStatusReason", "") for event in refused.events)
    assert "holds an artifact made for {'tensor_parallel_degree': 8}" in reasons
    assert ask(embedded) == ["MCMXCIV"], "the old model serves"
    assert embedded.destroy(SERVING).status == "DELETE_COMPLETE"
    assert embedded.destroy(FOUNDATION).status == "DELETE_COMPLETE"
