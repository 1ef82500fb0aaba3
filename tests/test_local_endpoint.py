"""An endpoint of the embedded AWS through CloudFormation: real processes, replaced, rolled back, removed."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from heavylift.local import process
from tests.embedded import Embedded
from tests.local_stack import stack
from tests.served import DEADLINE_S, eventually

pytestmark = pytest.mark.slow


def ask(aws: Embedded, endpoint: str, **asked: Any) -> dict[str, Any]:
    """The model server's answer."""
    reply = aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint, ContentType="application/json", Body=json.dumps(asked)
    )
    answer: dict[str, Any] = json.load(reply["Body"])
    return answer


def gone(pid: int) -> bool:
    """Whether the process ends."""
    return eventually(lambda: process.started_at(pid) is None)


def test_an_endpoint_serves_the_prefix_that_its_model_names_and_leaves_no_process(local_aws: Embedded) -> None:
    s3 = local_aws.client("s3")
    s3.create_bucket(Bucket="weights-of-one")
    for key, text in (("config/a/serving.properties", "engine=native"), ("config/a/code/model.py", "x = 1")):
        s3.put_object(Bucket="weights-of-one", Key=key, Body=text.encode())
    s3.put_object(Bucket="weights-of-one", Key="config/another/file", Body=b"not ours")

    deployed = local_aws.deploy("one", stack("one", {"MODEL_NAME": "a"}, data="s3://weights-of-one/config/a/"))
    described = local_aws.client("sagemaker").describe_endpoint(EndpointName="one")
    answer = ask(local_aws, "one", orphan=True)
    destroyed = local_aws.destroy("one")

    assert deployed.status == "CREATE_COMPLETE"
    assert deployed.outputs == {"EndpointName": "one"}
    assert described["EndpointStatus"] == "InService"
    assert answer["files"] == {"serving.properties": "engine=native", "code/model.py": "x = 1"}
    assert destroyed.status == "DELETE_COMPLETE"
    assert local_aws.client("sagemaker").list_endpoints(NameContains="one")["Endpoints"] == []
    assert gone(answer["pid"])
    assert gone(answer["asked"]["pid"])


def test_the_process_gets_sagemakers_environment_and_nothing_else(local_aws: Embedded) -> None:
    local_aws.deploy("environment", stack("environment", {"MODEL_NAME": "a", "OPTION_DTYPE": "fp32"}))

    environ = ask(local_aws, "environment")["environ"]

    local_aws.destroy("environment")
    assert environ.keys() == {
        *("PATH", "LANG", "HOME", "TMPDIR", "PYTHONPATH", "PYTHONUNBUFFERED", "HEAVYLIFT_ENVIRONMENTS"),
        "HEAVYLIFT_OPT_ML",
        *("MODEL_NAME", "OPTION_DTYPE", "SAGEMAKER_BIND_TO_PORT"),
        *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_EC2_METADATA_DISABLED"),
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    }
    assert environ["AWS_ENDPOINT_URL"] == local_aws.running.url
    assert environ["AWS_ACCESS_KEY_ID"] == "test"


def test_an_update_replaces_the_process_and_a_failed_one_keeps_the_old(local_aws: Embedded) -> None:
    local_aws.deploy("update", stack("update", {"MODEL_NAME": "a"}))
    first = ask(local_aws, "update")

    updated = local_aws.deploy("update", stack("update", {"MODEL_NAME": "b"}))
    second = ask(local_aws, "update")
    failed = local_aws.deploy("update", stack("update", {"MODEL_NAME": "c", "EXIT_AT_START": "1"}))
    third = ask(local_aws, "update")
    described = local_aws.client("sagemaker").describe_endpoint(EndpointName="update")
    configs = local_aws.client("sagemaker").list_endpoint_configs(NameContains="update")["EndpointConfigs"]
    local_aws.destroy("update")

    assert updated.status == "UPDATE_COMPLETE"
    assert (first["model"], second["model"]) == ("a", "b")
    assert gone(first["pid"])
    assert failed.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "exited with code 3" in failed.reasons("Endpoint")
    assert "the weights are truncated" in failed.reasons("Endpoint")
    assert third["pid"] == second["pid"]
    assert described["EndpointStatus"] == "InService"
    assert "the weights are truncated" in described["FailureReason"]
    assert [config["EndpointConfigName"] for config in configs] == [described["EndpointConfigName"]]


def test_the_old_process_serves_until_the_new_one_is_healthy(local_aws: Embedded) -> None:
    sagemaker = local_aws.client("sagemaker")
    local_aws.deploy("bluegreen", stack("bluegreen", {"MODEL_NAME": "a"}))
    local_aws.deploy("green", stack("green", {"MODEL_NAME": "b"}))
    old = sagemaker.describe_endpoint(EndpointName="bluegreen")["EndpointConfigName"]
    new = sagemaker.describe_endpoint(EndpointName="green")["EndpointConfigName"]

    sagemaker.update_endpoint(EndpointName="bluegreen", EndpointConfigName=new)
    meanwhile, during = sagemaker.describe_endpoint(EndpointName="bluegreen"), ask(local_aws, "bluegreen")["model"]
    with pytest.raises(ClientError, match="in-progress"):
        sagemaker.delete_endpoint(EndpointName="bluegreen")
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName="bluegreen", WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    after = ask(local_aws, "bluegreen")["model"]
    for name in ("bluegreen", "green"):
        local_aws.destroy(name)

    assert (meanwhile["EndpointStatus"], meanwhile["EndpointConfigName"], during) == ("Updating", old, "a")
    assert meanwhile["PendingDeploymentSummary"]["EndpointConfigName"] == new
    assert after == "b"


def test_an_endpoint_that_cannot_start_rolls_the_stack_back_with_the_end_of_its_log(local_aws: Embedded) -> None:
    deployed = local_aws.deploy("broken", stack("broken", {"EXIT_AT_START": "1"}))

    assert deployed.status == "ROLLBACK_COMPLETE"
    assert "exited with code 3" in deployed.reasons("Endpoint")
    assert "the weights are truncated" in deployed.reasons("Endpoint")
    assert "broken/0001.log" in deployed.reasons("Endpoint")
    assert local_aws.client("sagemaker").list_models(NameContains="broken")["Models"] == []
    local_aws.destroy("broken")


def test_a_prefix_without_objects_fails_the_endpoint(local_aws: Embedded) -> None:
    local_aws.client("s3").create_bucket(Bucket="empty-weights")

    deployed = local_aws.deploy("empty", stack("empty", {}, data="s3://empty-weights/weights/"))

    assert deployed.status == "ROLLBACK_COMPLETE"
    assert "no object under 's3://empty-weights/weights/'" in deployed.reasons("Endpoint")
    local_aws.destroy("empty")


def test_a_process_that_dies_is_named_by_the_next_invocation_and_started_again(local_aws: Embedded) -> None:
    local_aws.deploy("dies", stack("dies", {}))
    first = ask(local_aws, "dies")["pid"]
    os.kill(first, signal.SIGKILL)

    with pytest.raises(ClientError, match=r"broke the connection.*dies/0001\.log") as raised:
        ask(local_aws, "dies")

    assert raised.value.response["Error"]["Code"] == "ModelError"
    second = answer_again(local_aws, "dies")
    assert second != first
    os.kill(second, signal.SIGKILL)
    assert answer_again(local_aws, "dies") not in (first, second)
    assert local_aws.client("sagemaker").describe_endpoint(EndpointName="dies")["EndpointStatus"] == "InService"
    local_aws.destroy("dies")


def answer_again(aws: Embedded, endpoint: str) -> int:
    """The number of the process that answers, once one does."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            return int(ask(aws, endpoint)["pid"])
        except ClientError:
            time.sleep(0.05)
    raise AssertionError(f"{endpoint} did not come back")


def test_an_endpoint_whose_process_has_died_can_be_updated_and_deleted(local_aws: Embedded) -> None:
    local_aws.deploy("dead", stack("dead", {"MODEL_NAME": "a"}))
    os.kill(ask(local_aws, "dead")["pid"], signal.SIGKILL)

    updated = local_aws.deploy("dead", stack("dead", {"MODEL_NAME": "b"}))
    answer = ask(local_aws, "dead")
    os.kill(answer["pid"], signal.SIGKILL)
    destroyed = local_aws.destroy("dead")

    assert (updated.status, answer["model"], destroyed.status) == ("UPDATE_COMPLETE", "b", "DELETE_COMPLETE")
    assert local_aws.client("sagemaker").list_endpoints(NameContains="dead")["Endpoints"] == []
