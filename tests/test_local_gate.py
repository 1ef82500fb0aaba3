"""A custom resource after the endpoint: a Lambda that really runs in the embedded AWS, and whose failure rolls back."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.embedded import Deployed, Embedded
from tests.local_stack import stack
from tests.served import eventually

pytestmark = pytest.mark.slow


def model_of(aws: Embedded, endpoint: str) -> str:
    """The name of the model that serves."""
    reply = aws.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"{}")
    return str(json.load(reply["Body"])["model"])


def test_a_gate_runs_after_the_endpoint_and_reaches_it_through_the_embedded_aws(local_aws: Embedded) -> None:
    deployed = local_aws.deploy("gate", stack("gate", {"MODEL_NAME": "a"}, gate={"Limit": "kept"}))
    local_aws.destroy("gate")

    assert deployed.status == "CREATE_COMPLETE"
    assert deployed.outputs == {"EndpointName": "gate", "Model": "a", "Variable": "reports", "PythonPath": "none"}
    order = [(event["LogicalResourceId"], event["ResourceStatus"]) for event in deployed.events]
    assert order.index(("Endpoint", "CREATE_COMPLETE")) < order.index(("Gate", "CREATE_IN_PROGRESS"))


def test_a_missed_gate_on_create_rolls_everything_back(local_aws: Embedded) -> None:
    deployed = local_aws.deploy("missed", stack("missed", {"MODEL_NAME": "a"}, gate={"Limit": "missed"}))

    assert deployed.status == "ROLLBACK_COMPLETE"
    assert "p90 is 2100 ms, at most 2000 ms; served by a" in deployed.reasons("Gate")
    assert deployed.statuses("Endpoint") == [
        "CREATE_IN_PROGRESS",
        "CREATE_COMPLETE",
        "DELETE_IN_PROGRESS",
        "DELETE_COMPLETE",
    ]
    assert local_aws.client("sagemaker").list_endpoints(NameContains="missed")["Endpoints"] == []
    local_aws.destroy("missed")


def test_a_missed_gate_on_update_brings_the_old_model_back(local_aws: Embedded) -> None:
    local_aws.deploy("back", stack("back", {"MODEL_NAME": "a"}, gate={"Limit": "kept", "Digest": "1"}))
    before = local_aws.client("sagemaker").describe_endpoint(EndpointName="back")["EndpointConfigName"]

    updated = local_aws.deploy("back", stack("back", {"MODEL_NAME": "b"}, gate={"Limit": "missed", "Digest": "2"}))

    described = local_aws.client("sagemaker").describe_endpoint(EndpointName="back")
    configs = local_aws.client("sagemaker").list_endpoint_configs(NameContains="back")["EndpointConfigs"]
    assert updated.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "served by b" in updated.reasons("Gate")
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointConfigName"] == before
    assert [config["EndpointConfigName"] for config in configs] == [before]
    assert model_of(local_aws, "back") == "a"
    local_aws.destroy("back")


def test_a_function_that_crashes_before_it_answers_fails_its_resource_at_once(local_aws: Embedded) -> None:
    template = stack("crash", {"MODEL_NAME": "a"}, gate={"Limit": "kept", "Crash": "true"})

    deployed = local_aws.deploy("crash", template)

    assert deployed.status == "ROLLBACK_COMPLETE"
    assert "ended in an error before it answered" in deployed.reasons("Gate")
    local_aws.destroy("crash")


def test_a_long_gate_blocks_nothing_else(local_aws: Embedded, tmp_path: Path) -> None:
    deployed: list[Deployed] = []
    template = stack("long", {"MODEL_NAME": "a"}, gate={"Limit": "kept", "Until": str(tmp_path / "end")})
    thread = threading.Thread(target=lambda: deployed.append(local_aws.deploy("long", template)))
    local_aws.client("cloudformation"), local_aws.client("ssm")  # boto3 does not make clients on two threads
    sagemaker = local_aws.client("sagemaker")

    thread.start()
    eventually((tmp_path / "end.awaited").exists)
    meanwhile = [sagemaker.list_endpoints(NameContains="long")["Endpoints"][0]["EndpointStatus"] for _ in range(20)]
    (tmp_path / "end").touch()
    thread.join()

    assert deployed[0].status == "CREATE_COMPLETE"
    assert set(meanwhile) == {"InService"}
    local_aws.destroy("long")


def test_an_update_that_is_cancelled_does_not_wait_for_its_gate(local_aws: Embedded, tmp_path: Path) -> None:
    local_aws.deploy("cancel", stack("cancel", {"MODEL_NAME": "a"}, gate={"Limit": "kept", "Digest": "1"}))
    updated: list[Deployed] = []
    never = {"Limit": "kept", "Digest": "2", "Until": str(tmp_path / "never")}
    template = stack("cancel", {"MODEL_NAME": "b"}, gate=never)
    cloudformation = local_aws.client("cloudformation")
    thread = threading.Thread(target=lambda: updated.append(local_aws.deploy("cancel", template)))

    thread.start()
    eventually((tmp_path / "never.awaited").exists)
    cloudformation.cancel_update_stack(StackName="cancel")
    thread.join()

    assert updated[0].status == "UPDATE_ROLLBACK_COMPLETE"
    assert "the stack was taken back before the function answered" in updated[0].reasons("Gate")
    assert model_of(local_aws, "cancel") == "a"
    local_aws.destroy("cancel")
