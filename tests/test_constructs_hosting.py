"""Endpoints with all that can be said, under the eyes of others: cdk-nag, cfn-lint, botocore's model of each API."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from heavylift_cdk import Asynchronous, Container, Instances, ModelEndpoint, Scaling, Schedule, Tracking, Variant
from tests.cdk import IMAGE, App, Stack, Synthesized, Template, s3
from tests.hosting import CASES, SECRET, synthesize
from tests.judges import OPERATIONS, add_nag, api_faults, lint, nag, of_apis


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    return synthesize(tmp_path_factory.mktemp("assembly"), add_nag)


def resources(synthesized: Synthesized, *kinds: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Stack, type and properties of every resource of these types."""
    return [
        (stack, each["Type"], each["Properties"])
        for stack in CASES
        for each in synthesized.json(stack)["Resources"].values()
        if each["Type"] in kinds
    ]


def test_cdk_nag_finds_nothing_that_has_no_reason(synthesized: Synthesized) -> None:
    assert nag(synthesized) == []


@pytest.mark.slow
@pytest.mark.parametrize("stack", CASES)
def test_cfn_lint_finds_nothing(synthesized: Synthesized, stack: str) -> None:
    assert lint(synthesized, stack) == []


def test_every_request_that_a_template_makes_is_one_that_the_api_takes(synthesized: Synthesized) -> None:
    asked = [each for stack in CASES for each in of_apis(synthesized, stack)]

    assert api_faults(asked) == []
    assert {kind for kind, _ in asked} == set(OPERATIONS)


TOLD = "read only: what SageMaker tells"
NOT_SAID = {
    "Model": {
        "modelname": "what is replaced has no name",
        "tags": "the app's: Tags.of(scope)",
        "containers.inferencespecificationname": "of model packages",
        "containers.modelpackagename": "Marketplace's and the registry's: an image is named here",
        "containers.imageconfig.repositoryauthconfig": "of registries outside AWS: from_ecr and from_uri are ECR's",
        "containers.modeldatasource.s3datasource.hubaccessconfig": "of SageMaker's own hub",
        "containers.modeldatasource.s3datasource.modelaccessconfig": "of gated models in SageMaker's own hub",
    },
    "EndpointConfig": {
        "endpointconfigname": "what is replaced has no name",
        "tags": "the app's: Tags.of(scope)",
        "explainerconfig": "Clarify explains the columns of tables",
        "productionvariants.acceleratortype": "Elastic Inference is no more",
    },
    "Endpoint": {
        "tags": "the app's: Tags.of(scope)",
        "retaindeploymentconfig": "each update brings its own",
    },
    "InferenceComponent": {
        "tags": "the app's: Tags.of(scope)",
        "endpointarn": "its name says it",
        "runtimeconfig.currentcopycount": TOLD,
        "runtimeconfig.desiredcopycount": TOLD,
        "runtimeconfig.placementstatus": TOLD,
        "specification.container.deployedimage": TOLD,
        "specification.currentdatacacheconfig": TOLD,
        "specification.container.containermetricsconfig": "8080/metrics is SageMaker's default and our server's place",
        "specification.container.environment": "the Model's, which a component names",
        "specification.container.image": "the Model's",
        "specifications": "one for each instance type: the copies here are alike",
    },
}
"""Properties that nothing of ours says, each with the reason; what is below one of them is not said either."""
SAME = {"primarycontainer": "containers", "shadowproductionvariants": "productionvariants"}
"""Members of one kind; what one of them says, the other can."""


def known(resource: Any) -> set[str]:
    """Every property of a CloudFormation resource in aws-cdk-lib: `productionvariants.volumesizeingb`."""
    found = set()

    def walk(kind: Any, at: tuple[str, ...]) -> None:
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            if name in ("self", "scope", "id"):
                continue
            here = (*at, SAME.get(name.replace("_", ""), name.replace("_", "")))
            found.add(".".join(here))
            for inner in re.findall(rf"{resource.__name__}\.(\w+Property)", str(parameter.annotation)):
                walk(getattr(resource, inner), here)

    walk(resource, ())
    return found


def said(value: Any, at: tuple[str, ...] = ()) -> set[str]:
    """Every property that a template says, in the same words."""
    if isinstance(value, list):
        return {path for each in value for path in said(each, at)}
    if not isinstance(value, dict):
        return set()
    places = {key: (*at, SAME.get(key.lower(), key.lower())) for key in value}
    return {path for key, here in places.items() for path in (".".join(here), *said(value[key], here))}


@pytest.mark.parametrize("kind", ["Model", "EndpointConfig", "Endpoint", "InferenceComponent"])
def test_all_that_cloudformation_knows_of_an_endpoint_can_be_said(synthesized: Synthesized, kind: str) -> None:
    from aws_cdk import aws_sagemaker as sagemaker

    unsaid, reasons = known(getattr(sagemaker, f"Cfn{kind}")), NOT_SAID[kind]

    for _, _, properties in resources(synthesized, f"AWS::SageMaker::{kind}"):
        unsaid -= said(properties)

    left = {path for path in unsaid if not any(path == each or path.startswith(f"{each}.") for each in reasons)}
    assert left == set(), "a new property: let a construct say it, or give the reason"
    assert set(reasons) <= unsaid, "a reason for what is said"


def test_no_role_has_full_access_and_only_what_has_no_arn_is_everywhere(synthesized: Synthesized) -> None:
    everywhere: set[str] = set()
    for _, kind, properties in resources(synthesized, "AWS::IAM::Role", "AWS::IAM::Policy"):
        assert "ManagedPolicyArns" not in properties
        for statement in properties.get("PolicyDocument", {}).get("Statement", []):
            actions, where = statement["Action"], statement["Resource"]
            assert not any(action.endswith("*") for action in ([actions] if isinstance(actions, str) else actions)), (
                kind
            )
            if where == "*" and "Condition" not in statement:
                everywhere |= {actions} if isinstance(actions, str) else set(actions)

    assert {action for action in everywhere if not action.startswith("ec2:")} == {"ecr:GetAuthorizationToken"}


def test_a_container_reads_its_own_files_and_its_secret_by_name(synthesized: Synthesized) -> None:
    template = synthesized.template("everything")
    (model, *_) = [each for _, _, each in resources(synthesized, "AWS::SageMaker::Model")]

    environment = model["PrimaryContainer"]["Environment"]
    assert set(environment) == {"LOG_LEVEL", "HF_TOKEN_SECRET_ARN"}
    assert environment["HF_TOKEN_SECRET_ARN"] == SECRET
    (policy,) = [
        each["Properties"]["PolicyDocument"]["Statement"]
        for id, each in template.find_resources("AWS::IAM::Policy").items()
        if "Access" in id
    ]
    (read,) = [each["Resource"] for each in policy if each["Action"] == "s3:GetObject"]
    assert sorted(each["Fn::Join"][1][-1] for each in read) == ["/weights/a1/*", "/weights/b2/*"]


def test_models_and_configurations_have_no_names(synthesized: Synthesized) -> None:
    for _, _, properties in resources(synthesized, "AWS::SageMaker::Model", "AWS::SageMaker::EndpointConfig"):
        assert not {"ModelName", "EndpointConfigName"} & set(properties)


def test_an_update_goes_back_on_the_alarms_and_keeps_what_scaling_came_to(synthesized: Synthesized) -> None:
    ((_, _, endpoint),) = [
        each for each in resources(synthesized, "AWS::SageMaker::Endpoint") if each[0] == "everything"
    ]

    deployment = endpoint["DeploymentConfig"]
    routing = deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing == {
        "Type": "LINEAR",
        "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
        "WaitIntervalInSeconds": 300,
    }
    assert len(deployment["AutoRollbackConfiguration"]["Alarms"]) == 6, "three limits, two variants"
    assert endpoint["RetainAllVariantProperties"] is True
    excluded = {each["VariantPropertyType"] for each in endpoint["ExcludeRetainedVariantProperties"]}
    assert excluded == {"DesiredWeight", "DataCaptureConfig"}, "these are the file's"


def test_alarms_are_in_cloudwatchs_units_and_do_not_wait_for_the_endpoint(synthesized: Synthesized) -> None:
    found = {
        (each["MetricName"], dimension["Value"]): each["Threshold"]
        for stack, _, each in resources(synthesized, "AWS::CloudWatch::Alarm")
        for dimension in each["Dimensions"]
        if stack == "everything" and dimension["Name"] == "VariantName"
    }

    assert found["ModelLatency", "a"] == 2_000_000, "microseconds"
    assert found["GPUMemoryUtilization", "b"] == 4 * 95, "summed over four devices"
    assert found["DiskUtilization", "b"] == 90
    assert found["Invocation5XXErrors", "a"] == 0.01
    assert found["CPUUtilization", "a"] == pytest.approx(30 / 7.09)
    for _, _, each in resources(synthesized, "AWS::CloudWatch::Alarm"):
        assert "Endpoint" not in json.dumps(
            [row["Value"] for row in each["Dimensions"] if row["Name"] == "EndpointName"]
        )


def test_what_scales_to_zero_comes_back_by_itself(synthesized: Synthesized) -> None:
    for stack, metric, dimension, period in (
        ("components", "NoCapacityInvocationFailures", "InferenceComponentName", 30),
        ("asynchronous", "HasBacklogWithoutCapacity", "EndpointName", 60),
    ):
        template = synthesized.template(stack)
        (policy,) = [
            id
            for id, each in template.find_resources("AWS::ApplicationAutoScaling::ScalingPolicy").items()
            if each["Properties"]["PolicyType"] == "StepScaling"
        ]
        alarm = {"MetricName": metric, "Period": period, "Threshold": 1, "AlarmActions": [{"Ref": policy}]}
        template.has_resource_properties("AWS::CloudWatch::Alarm", alarm)
        (dimensions,) = [
            each["Properties"]["Dimensions"]
            for each in template.find_resources("AWS::CloudWatch::Alarm").values()
            if each["Properties"]["MetricName"] == metric
        ]
        assert [row["Name"] for row in dimensions] == [dimension]
        template.has_resource_properties("AWS::ApplicationAutoScaling::ScalableTarget", {"MinCapacity": 0})
    config = synthesized.only("components", "AWS::SageMaker::EndpointConfig")
    assert config["ProductionVariants"][0]["ManagedInstanceScaling"]["MinInstanceCount"] == 0
    assert "ModelName" not in config["ProductionVariants"][0]
    assert "ExecutionRoleArn" in config


def test_what_a_schedule_alone_lets_go_to_zero_comes_back_by_itself_too() -> None:
    for schedules, policies in (
        ([Schedule("night", "cron(0 20 * * ? *)", minimum=1)], ["TargetTrackingScaling"]),
        ([Schedule("night", "cron(0 20 * * ? *)", minimum=0)], ["StepScaling", "TargetTrackingScaling"]),
    ):
        where = Stack(App(), "stack")
        endpoint = ModelEndpoint(
            where,
            "Endpoint",
            variants=[Variant(Instances("ml.c6i.xlarge"), (Container(IMAGE),))],
            asynchronous=Asynchronous(s3.Bucket(where, "Bucket"), "async/"),
        )

        Scaling.of_variant(
            where, "Scaling", endpoint=endpoint, minimum=1, maximum=2, tracking=Tracking(1, "backlog"),
            schedules=schedules,
        )  # fmt: skip

        made = Template.from_stack(where).find_resources("AWS::ApplicationAutoScaling::ScalingPolicy")
        assert sorted(each["Properties"]["PolicyType"] for each in made.values()) == policies


def test_the_same_app_gives_the_same_bytes(synthesized: Synthesized, tmp_path: Path) -> None:
    again = synthesize(tmp_path / "again", add_nag)

    for stack in CASES:
        name = f"{stack}.template.json"
        assert (again.folder / name).read_bytes() == (synthesized.folder / name).read_bytes()
