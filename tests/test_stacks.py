"""The template of a model's stack, by property. Not the foundation's (test_stacks_foundation.py).

Nor their checks by other tools: test_stacks_checks.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift.plan.parts import Instance, Model, Variant
from heavylift.serving import render
from heavylift_runtime.options import Options
from tests.cdk import Match, Synthesized, end_of, listed, plan, synthesize

FOUNDATION = "heavylift-foundation"
LARGE = plan(
    name="large",
    instance=Instance("ml.p3.16xlarge", 1, 64, 488.0, "V100", 8, 16.0, False, 25.0, None),
    variant=Variant(1800, 3600, 256, "al2-ami-sagemaker-inference-gpu-3-1"),
    model=Model("id:acme/large", "f" * 40, "t5", 11, "fp32", 11, 11, None),
    benchmark=None,
    gate_digest=None,
)
ISOLATED = plan(name="isolated", enable_network_isolation=True)


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    return synthesize(tmp_path_factory.mktemp("assembly"), plan(), LARGE, ISOLATED)


def test_no_role_carries_a_managed_policy(synthesized: Synthesized) -> None:
    for stack in (FOUNDATION, "heavylift-tiny-t5"):
        for resource in synthesized.json(stack)["Resources"].values():
            assert "ManagedPolicyArns" not in resource.get("Properties", {})


def test_the_foundation_is_the_same_whatever_the_models_are(synthesized: Synthesized, tmp_path: Path) -> None:
    alone = synthesize(tmp_path)

    assert alone.json(FOUNDATION) == synthesized.json(FOUNDATION)


def test_the_model_reads_its_options_as_model_data_and_its_weights_from_s3(synthesized: Synthesized) -> None:
    container = synthesized.only("heavylift-tiny-t5", "AWS::SageMaker::Model")["PrimaryContainer"]

    source = container["ModelDataSource"]["S3DataSource"]
    assert (source["S3DataType"], source["CompressionType"]) == ("S3Prefix", "None")
    assert end_of(source["S3Uri"]) == f"/config/{'b2' * 32}/"
    assert set(container["Environment"]) == {"LOG_LEVEL", "OPTION_MODEL_ID"}
    assert end_of(container["Environment"]["OPTION_MODEL_ID"]) == f"/weights/{'a1' * 32}/"


def test_network_isolation_turns_the_two_round(synthesized: Synthesized) -> None:
    model = synthesized.only("heavylift-isolated", "AWS::SageMaker::Model")
    container = model["PrimaryContainer"]

    assert model["EnableNetworkIsolation"] is True
    assert end_of(container["ModelDataSource"]["S3DataSource"]["S3Uri"]) == f"/weights/{'a1' * 32}/"
    options = Options.parse("", container["Environment"])
    assert options.to_json() == Options.parse(render(ISOLATED), {}).to_json(), "what the file would say"
    assert container["Environment"]["LOG_LEVEL"] == "info"
    assert "OPTION_MODEL_ID" not in container["Environment"], "the model is the folder itself"


@pytest.mark.parametrize(
    ("stack", "variant"),
    [
        (
            "heavylift-tiny-t5",
            {
                "ModelDataDownloadTimeoutInSeconds": 60,
                "ContainerStartupHealthCheckTimeoutInSeconds": 120,
                "VolumeSizeInGB": Match.absent(),
                "InferenceAmiVersion": Match.absent(),
            },
        ),
        (
            "heavylift-large",
            {
                "InstanceType": "ml.p3.16xlarge",
                "ModelDataDownloadTimeoutInSeconds": 1800,
                "ContainerStartupHealthCheckTimeoutInSeconds": 3600,
                "VolumeSizeInGB": 256,
                "InferenceAmiVersion": "al2-ami-sagemaker-inference-gpu-3-1",
            },
        ),
    ],
)
def test_the_variant_has_the_plans_timeouts_and_no_more_than_it_says(
    synthesized: Synthesized, stack: str, variant: dict[str, Any]
) -> None:
    common = {"InstanceType": "ml.c6i.xlarge", "InitialInstanceCount": 1, "VariantName": "AllTraffic"}

    synthesized.template(stack).has_resource_properties(
        "AWS::SageMaker::EndpointConfig", {"ProductionVariants": [Match.object_like(common | variant)]}
    )


def test_only_the_endpoint_has_a_name(synthesized: Synthesized) -> None:
    template = synthesized.template("heavylift-tiny-t5")

    template.has_resource_properties("AWS::SageMaker::Endpoint", {"EndpointName": "tiny-t5"})
    template.has_resource_properties("AWS::SageMaker::Model", {"ModelName": Match.absent()})
    template.has_resource_properties("AWS::SageMaker::EndpointConfig", {"EndpointConfigName": Match.absent()})


def test_the_gate_gets_its_four_properties_and_the_time_that_lambda_has(synthesized: Synthesized) -> None:
    gate = synthesized.only("heavylift-tiny-t5", "Custom::HeavyliftBenchmarkGate")
    function = next(each for each in _functions(synthesized) if each["Timeout"] == 900)

    assert gate["GateDigest"] == "c3" * 32
    assert json.loads(gate["Benchmark"]) == json.loads(plan().benchmark_json())
    assert gate["EndpointName"]["Fn::GetAtt"][1] == "EndpointName"
    assert gate["EndpointConfigName"]["Fn::GetAtt"][1] == "EndpointConfigName"
    assert int(gate["ServiceTimeout"]) > function["Timeout"]
    assert function["Handler"] == "heavylift.benchmark.handler.handler"
    assert list(function["Environment"]["Variables"]) == ["REPORTS_BUCKET"]


def test_the_gates_function_may_call_this_endpoint_and_write_this_models_reports(synthesized: Synthesized) -> None:
    statements = synthesized.statements("heavylift-tiny-t5")
    allowed = {action: each["Resource"] for each in statements for action in listed(each["Action"])}

    assert end_of(allowed["sagemaker:InvokeEndpoint"]) == ":endpoint/tiny-t5"
    assert end_of(allowed["sagemaker:DescribeEndpoint"]) == ":endpoint/tiny-t5"
    assert allowed["cloudformation:DescribeStacks"] == {"Ref": "AWS::StackId"}
    assert end_of(allowed["s3:PutObject"]) == "/reports/tiny-t5/*"
    assert not [action for action in allowed if "*" in action]


def test_without_a_benchmark_there_is_no_gate(synthesized: Synthesized) -> None:
    template = synthesized.template("heavylift-large")

    template.resource_count_is("Custom::HeavyliftBenchmarkGate", 0)
    template.resource_count_is("AWS::SageMaker::Endpoint", 1)


def test_weights_come_first_and_the_gate_last(synthesized: Synthesized) -> None:
    resources = synthesized.json("heavylift-tiny-t5")["Resources"]
    by_type = {each["Type"]: id for id, each in resources.items()}

    def awaits(later: str, earlier: str) -> bool:
        return by_type[earlier] in set(_awaited(by_type[later], resources))

    assert awaits("AWS::SageMaker::Model", "Custom::HeavyliftWeightsReady")
    assert awaits("AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Model")
    assert awaits("AWS::SageMaker::Endpoint", "AWS::SageMaker::EndpointConfig")
    assert awaits("Custom::HeavyliftBenchmarkGate", "AWS::SageMaker::Endpoint")


def test_a_custom_resource_awaits_the_rights_of_its_function(synthesized: Synthesized) -> None:
    resources = synthesized.json("heavylift-tiny-t5")["Resources"]

    for id in [id for id, each in resources.items() if each["Type"].startswith("Custom::")]:
        function = resources[id]["Properties"]["ServiceToken"]["Fn::GetAtt"][0]
        role = resources[function]["Properties"]["Role"]["Fn::GetAtt"][0]
        policies = {
            policy
            for policy, each in resources.items()
            if each["Type"] == "AWS::IAM::Policy" and {"Ref": role} in each["Properties"]["Roles"]
        }
        assert policies
        assert policies <= set(_awaited(id, resources))


def test_the_plans_tags_are_on_what_costs_money(synthesized: Synthesized) -> None:
    for kind in ("AWS::SageMaker::Model", "AWS::SageMaker::EndpointConfig", "AWS::SageMaker::Endpoint"):
        tags = {tag["Key"]: tag["Value"] for tag in synthesized.only("heavylift-tiny-t5", kind)["Tags"]}
        assert tags == {"heavylift:model": "tiny-t5", "team": "search"}


def _functions(synthesized: Synthesized) -> list[dict[str, Any]]:
    resources = synthesized.json("heavylift-tiny-t5")["Resources"].values()
    return [each["Properties"] for each in resources if each["Type"] == "AWS::Lambda::Function"]


def _awaited(id: str, resources: dict[str, Any]) -> Iterator[str]:
    """Every resource that CloudFormation makes before `id`."""
    pending, seen = [id], {id}
    while pending:
        for other in set(_references(resources[pending.pop()])) & resources.keys() - seen:
            seen.add(other)
            pending.append(other)
            yield other


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "Ref":
                yield each
            elif key == "Fn::GetAtt":
                yield each[0]
            elif key == "DependsOn":
                yield from listed(each)
            else:
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
