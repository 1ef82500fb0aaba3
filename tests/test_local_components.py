"""Inference components in the embedded AWS: each copy a process, invoked by name, updated, scaled, rolled back."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.embedded import Embedded
from tests.local_stack import ROLE, stack

pytestmark = pytest.mark.slow
NEEDS = {"MinMemoryRequiredInMb": 256}


def hosted(endpoint: str, **components: dict[str, str]) -> dict[str, Any]:
    """A template of one endpoint with components by their names; of each its environment, and `Copies`."""
    template = stack(endpoint, {})
    resources = template["Resources"]
    model = resources.pop("Model")
    config = resources["Config"]["Properties"]
    config["ExecutionRoleArn"] = ROLE
    for key in ("ModelName", "InitialVariantWeight"):
        del config["ProductionVariants"][0][key]
    for key in ("ModelDataDownloadTimeoutInSeconds", "ContainerStartupHealthCheckTimeoutInSeconds"):
        del config["ProductionVariants"][0][key]
    for name, given in components.items():
        made = json.loads(json.dumps(model))
        environment = {key: value for key, value in given.items() if key != "Copies"}
        made["Properties"]["PrimaryContainer"]["Environment"] = {"MODEL_NAME": name, **environment}
        resources[f"Model{name}"] = made
        resources[f"Component{name}"] = {
            "Type": "AWS::SageMaker::InferenceComponent",
            "Properties": {
                "InferenceComponentName": name,
                "EndpointName": {"Fn::GetAtt": ["Endpoint", "EndpointName"]},
                "VariantName": "AllTraffic",
                "Specification": {
                    "ModelName": {"Fn::GetAtt": [f"Model{name}", "ModelName"]},
                    "ComputeResourceRequirements": NEEDS,
                    "StartupParameters": {"ContainerStartupHealthCheckTimeoutInSeconds": 60},
                },
                "RuntimeConfig": {"CopyCount": int(given.get("Copies", "1"))},
                "Tags": [{"Key": "team", "Value": "models"}],
            },
        }
    return template


def ask(aws: Embedded, endpoint: str, **options: str) -> dict[str, Any]:
    reply = aws.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"{}", **options)
    document: dict[str, Any] = json.load(reply["Body"])
    return {**document, "variant": reply["InvokedProductionVariant"]}


def pids(aws: Embedded, endpoint: str, component: str, times: int = 4) -> Counter[int]:
    return Counter(ask(aws, endpoint, InferenceComponentName=component)["pid"] for _ in range(times))


def settled(aws: Embedded, component: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        found = aws.client("sagemaker").describe_inference_component(InferenceComponentName=component)
        if not found["InferenceComponentStatus"].endswith("ing"):
            described: dict[str, Any] = found
            return described
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_components_share_an_endpoint_and_each_is_asked_by_its_name(local_aws: Embedded) -> None:
    sagemaker = local_aws.client("sagemaker")
    deployed = local_aws.deploy("shared-ic", hosted("shared-ic", small={}, large={"Copies": "2"}))
    assert deployed.status == "CREATE_COMPLETE", deployed.events

    answers = [ask(local_aws, "shared-ic", InferenceComponentName=name) for name in ("small", "large")]
    copies = pids(local_aws, "shared-ic", "large"), pids(local_aws, "shared-ic", "small")
    described = sagemaker.describe_inference_component(InferenceComponentName="large")
    listed = sagemaker.list_inference_components(EndpointNameEquals="shared-ic", StatusEquals="InService")
    tags = sagemaker.list_tags(ResourceArn=described["InferenceComponentArn"])["Tags"]
    for options, sentence in (
        ({}, "has inference components: name one with InferenceComponentName"),
        ({"InferenceComponentName": "other"}, "no inference component 'other'"),
    ):
        with pytest.raises(ClientError, match=sentence):
            ask(local_aws, "shared-ic", **options)
    with pytest.raises(ClientError, match=r"delete (small, large|large, small) first"):
        sagemaker.delete_endpoint(EndpointName="shared-ic")
    gone = local_aws.destroy("shared-ic")

    assert [each["model"] for each in answers] == ["small", "large"]
    assert {each["variant"] for each in answers} == {"AllTraffic"}
    assert sorted(copies[0].values()) == [2, 2] and list(copies[1].values()) == [4]
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    assert described["Specification"]["ComputeResourceRequirements"] == NEEDS
    assert sorted(row["InferenceComponentName"] for row in listed["InferenceComponents"]) == ["large", "small"]
    assert {"Key": "team", "Value": "models"} in tags
    assert gone.status == "DELETE_COMPLETE"
    assert sagemaker.list_inference_components(EndpointNameEquals="shared-ic")["InferenceComponents"] == []


def test_an_update_replaces_the_copies_and_one_that_cannot_start_keeps_the_old_ones(local_aws: Embedded) -> None:
    local_aws.deploy("update-ic", hosted("update-ic", one={"VERSION": "1"}))
    first = ask(local_aws, "update-ic", InferenceComponentName="one")

    updated = local_aws.deploy("update-ic", hosted("update-ic", one={"VERSION": "2"}))
    second = ask(local_aws, "update-ic", InferenceComponentName="one")
    failed = local_aws.deploy("update-ic", hosted("update-ic", one={"VERSION": "3", "EXIT_AT_START": "1"}))
    third = ask(local_aws, "update-ic", InferenceComponentName="one")
    status = settled(local_aws, "one")
    local_aws.destroy("update-ic")

    assert (updated.status, failed.status) == ("UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE")
    assert [each["environ"]["VERSION"] for each in (first, second, third)] == ["1", "2", "2"]
    assert "the weights are truncated" in failed.reasons("Componentone")
    assert status["InferenceComponentStatus"] == "InService"


def test_a_component_that_cannot_start_rolls_a_new_stack_back(local_aws: Embedded) -> None:
    deployed = local_aws.deploy("broken-ic", hosted("broken-ic", bad={"EXIT_AT_START": "1"}))

    left = local_aws.client("sagemaker").list_inference_components()["InferenceComponents"]
    local_aws.destroy("broken-ic")

    assert deployed.status == "ROLLBACK_COMPLETE"
    assert "inference-component bad is Failed" in deployed.reasons("Componentbad")
    assert [row for row in left if row["InferenceComponentName"] == "bad"] == []


def test_copies_come_and_go_and_those_that_stay_are_not_started_again(local_aws: Embedded) -> None:
    sagemaker = local_aws.client("sagemaker")
    local_aws.deploy("copies-ic", hosted("copies-ic", many={}))

    def scale(copies: int) -> dict[str, Any]:
        sagemaker.update_inference_component_runtime_config(
            InferenceComponentName="many", DesiredRuntimeConfig={"CopyCount": copies}
        )
        return settled(local_aws, "many")

    (one,) = pids(local_aws, "copies-ic", "many")
    more = scale(2)
    both = pids(local_aws, "copies-ic", "many")
    none = scale(0)
    with pytest.raises(ClientError, match="many is InService and has no copy that could answer"):
        ask(local_aws, "copies-ic", InferenceComponentName="many")
    scale(1)
    again = pids(local_aws, "copies-ic", "many")
    local_aws.destroy("copies-ic")

    assert one in both and len(both) == 2
    assert more["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    assert none["RuntimeConfig"] == {"DesiredCopyCount": 0, "CurrentCopyCount": 0}
    assert len(again) == 1 and one not in again


def test_a_copy_that_dies_is_started_again(local_aws: Embedded) -> None:
    local_aws.deploy("dies-ic", hosted("dies-ic", mortal={}))
    (before,) = pids(local_aws, "dies-ic", "mortal", 1)

    log = local_aws.aws.home / "components" / "mortal"
    with open(f"/proc/{before}/stat") as stat:
        assert "python" in stat.read()
    os.kill(before, signal.SIGKILL)
    deadline, after = time.monotonic() + 60, before
    while after == before:
        assert time.monotonic() < deadline
        try:
            (after,) = pids(local_aws, "dies-ic", "mortal", 1)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ModelError"
            time.sleep(0.05)
    logs = sorted(file.name for file in log.glob("*.log"))
    local_aws.destroy("dies-ic")

    assert logs == ["0001.log", "0002.log"]


def test_a_component_can_be_scaled_by_auto_scalings_own_words(local_aws: Embedded) -> None:
    local_aws.deploy("scaled-ic", hosted("scaled-ic", wide={}))
    scaling = local_aws.client("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "inference-component/wide",
        "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
    }

    scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=4)
    with pytest.raises(ClientError, match="there is no inference component 'narrow'"):
        scaling.register_scalable_target(
            **{**target, "ResourceId": "inference-component/narrow"}, MinCapacity=0, MaxCapacity=4
        )
    scaling.deregister_scalable_target(**target)
    local_aws.destroy("scaled-ic")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"BaseInferenceComponentName": "one"},
            "needs Container.ArtifactUrl, s3://bucket/key.tar.gz, and no ModelName",
        ),
        (
            {"BaseInferenceComponentName": "one", "ModelName": None, "Container": {"ArtifactUrl": "s3://b/a.tar.gz"}},
            "endpoint refusing-ic has no inference component 'one' to adapt",
        ),
        ({"ModelName": "nothing"}, 'Could not find model ".*/nothing"'),
        ({"Container": {"Image": "i"}}, "a ModelName or a Container, and not both"),
        ({"ModelName": None, "Container": {"Image": "i", "ArtifactUrl": "s3://b/a.tar.gz"}}, "without ArtifactUrl"),
        ({"ComputeResourceRequirements": None}, "Specification needs ComputeResourceRequirements"),
    ],
)
def test_what_a_component_cannot_be_is_refused_with_a_sentence(
    local_aws: Embedded, refusing: str, changes: dict[str, Any], sentence: str
) -> None:
    specification = {"ModelName": refusing, "ComputeResourceRequirements": NEEDS, **changes}
    specification = {key: value for key, value in specification.items() if value is not None}

    with pytest.raises(ClientError, match=sentence):
        local_aws.client("sagemaker").create_inference_component(
            InferenceComponentName="refused", EndpointName="refusing-ic", VariantName="AllTraffic",
            Specification=specification, RuntimeConfig={"CopyCount": 1},
        )  # fmt: skip


def test_a_component_needs_instances_without_a_model(local_aws: Embedded, refusing: str) -> None:
    local_aws.deploy("plain-ic", stack("plain-ic", {"MODEL_NAME": "a"}))
    sagemaker = local_aws.client("sagemaker")
    asked: dict[str, Any] = {
        "InferenceComponentName": "refused",
        "Specification": {"ModelName": refusing, "ComputeResourceRequirements": NEEDS},
        "RuntimeConfig": {"CopyCount": 1},
    }

    with pytest.raises(ClientError, match="the variants without a model of their own are: none"):
        sagemaker.create_inference_component(**asked, EndpointName="plain-ic", VariantName="AllTraffic")
    with pytest.raises(ClientError, match=r"VariantName is 'b'.*are: AllTraffic"):
        sagemaker.create_inference_component(**asked, EndpointName="refusing-ic", VariantName="b")
    with pytest.raises(ClientError, match="CopyCount is 0"):
        sagemaker.create_inference_component(**{**asked, "RuntimeConfig": {"CopyCount": 0}}, EndpointName="refusing-ic")
    with pytest.raises(ClientError, match="ExecutionRoleArn is missing"):
        sagemaker.create_endpoint_config(
            EndpointConfigName="roleless",
            ProductionVariants=[{"VariantName": "v", "InstanceType": "ml.c6i.xlarge", "InitialInstanceCount": 1}],
        )
    local_aws.destroy("plain-ic")


@pytest.fixture(scope="module")
def refusing(local_aws: Embedded) -> Any:
    """An endpoint that takes components, and a model that could be one."""
    local_aws.deploy("refusing-ic", hosted("refusing-ic"))
    image = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/m:1"}
    local_aws.client("sagemaker").create_model(ModelName="refused", ExecutionRoleArn=ROLE, PrimaryContainer=image)
    yield "refused"
    local_aws.destroy("refusing-ic")


def packed(accent: str | None) -> bytes:
    """An adapter's archive; without the file that it needs where None."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        entry = tarfile.TarInfo("other" if accent is None else "accent")
        entry.size = len(accent or "")
        archive.addfile(entry, io.BytesIO((accent or "").encode()))
    return data.getvalue()


def adapted(endpoint: str, archive: str) -> dict[str, Any]:
    """A template of one component with two copies, and an adapter of it."""
    template = hosted(endpoint, base={"Copies": "2"})
    template["Resources"]["Adapter"] = {
        "Type": "AWS::SageMaker::InferenceComponent",
        "DependsOn": ["Componentbase"],
        "Properties": {
            "InferenceComponentName": "french",
            "EndpointName": {"Fn::GetAtt": ["Endpoint", "EndpointName"]},
            "Specification": {
                "BaseInferenceComponentName": "base",
                "Container": {"ArtifactUrl": f"s3://adapters/{archive}.tar.gz"},
            },
        },
    }
    return template


def test_an_adapter_is_served_by_every_copy_of_its_base_and_by_those_that_come_later(local_aws: Embedded) -> None:
    s3, sagemaker = local_aws.client("s3"), local_aws.client("sagemaker")
    s3.create_bucket(Bucket="adapters")
    for name, accent in (("one", "bonjour"), ("two", "salut"), ("none", None)):
        s3.put_object(Bucket="adapters", Key=f"{name}.tar.gz", Body=packed(accent))

    def accents(component: str, times: int = 4) -> list[tuple[str | None, int]]:
        asked = (ask(local_aws, "adapted-ic", InferenceComponentName=component) for _ in range(times))
        return [(each["accent"], each["pid"]) for each in asked]

    created = local_aws.deploy("adapted-ic", adapted("adapted-ic", "one"))
    assert created.status == "CREATE_COMPLETE", created.events
    first, plain = accents("french"), accents("base")
    described = sagemaker.describe_inference_component(InferenceComponentName="french")
    with pytest.raises(ClientError, match="base has adapters: delete french first"):
        sagemaker.delete_inference_component(InferenceComponentName="base")
    sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="base", DesiredRuntimeConfig={"CopyCount": 3}
    )
    settled(local_aws, "base")
    more = accents("french", 6)
    updated = local_aws.deploy("adapted-ic", adapted("adapted-ic", "two"))
    second = accents("french")
    failed = local_aws.deploy("adapted-ic", adapted("adapted-ic", "none"))
    third = accents("french")
    gone = local_aws.destroy("adapted-ic")

    assert {accent for accent, _ in first} == {"bonjour"} and len({pid for _, pid in first}) == 2
    assert {accent for accent, _ in plain} == {None}
    assert {accent for accent, _ in more} == {"bonjour"} and len({pid for _, pid in more}) == 3
    assert described["Specification"]["BaseInferenceComponentName"] == "base" and "RuntimeConfig" not in described
    assert (updated.status, {accent for accent, _ in second}) == ("UPDATE_COMPLETE", {"salut"})
    assert failed.status == "UPDATE_ROLLBACK_COMPLETE" and "has no accent" in failed.reasons("Adapter")
    assert {accent for accent, _ in third} == {"salut"}
    assert gone.status == "DELETE_COMPLETE"
