"""Asynchronous endpoints in the embedded AWS: requests and results in S3, so many at a time, and who is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.embedded import Embedded
from tests.local_stack import ROLE, stack

pytestmark = pytest.mark.slow
BUCKET = "queue"
OUTPUT = {"S3OutputPath": f"s3://{BUCKET}/results/", "S3FailurePath": f"s3://{BUCKET}/failed"}


def queued(name: str, environment: dict[str, str], at_once: int | None = None, **output: Any) -> dict[str, Any]:
    """A template of one asynchronous endpoint."""
    template = stack(name, environment)
    client = {} if at_once is None else {"ClientConfig": {"MaxConcurrentInvocationsPerInstance": at_once}}
    config = {"OutputConfig": {**OUTPUT, **output}, **client}
    template["Resources"]["Config"]["Properties"]["AsyncInferenceConfig"] = config
    return template


@pytest.fixture
def aws(local_aws: Embedded) -> Iterator[Embedded]:
    local_aws.client("s3").create_bucket(Bucket=BUCKET)
    yield local_aws


def put(aws: Embedded, **asked: Any) -> str:
    """A request's body in S3: its URI."""
    key = f"inputs/{time.monotonic_ns()}.json"
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=json.dumps(asked).encode())
    return f"s3://{BUCKET}/{key}"


def send(aws: Embedded, endpoint: str, **options: Any) -> dict[str, Any]:
    runtime = aws.client("sagemaker-runtime")
    reply: dict[str, Any] = runtime.invoke_endpoint_async(
        EndpointName=endpoint, ContentType="application/json", **options
    )
    return reply


def until(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def object_at(aws: Embedded, uri: str) -> dict[str, Any] | None:
    """GetObject's reply with the body read; None where it is not there."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        found: dict[str, Any] = aws.client("s3").get_object(Bucket=bucket, Key=key)
    except aws.client("s3").exceptions.NoSuchKey:
        return None
    return {**found, "Body": found["Body"].read()}


def result(aws: Embedded, taken: dict[str, Any]) -> dict[str, Any]:
    """What the container answered."""
    document: dict[str, Any] = json.loads(until(lambda: object_at(aws, taken["OutputLocation"]))["Body"])
    return document


def failure(aws: Embedded, taken: dict[str, Any]) -> str:
    """Why it came to nothing."""
    return str(until(lambda: object_at(aws, taken["FailureLocation"]))["Body"], "utf-8")


def test_a_request_in_s3_is_answered_in_s3(aws: Embedded) -> None:
    assert aws.deploy("queued", queued("queued", {"MODEL_NAME": "a"})).status == "CREATE_COMPLETE"

    taken = send(aws, "queued", InputLocation=put(aws, inputs="x"), InferenceId="mine", CustomAttributes="trace=7")
    inline = send(aws, "queued", Body=b'{"inputs": "y"}', S3OutputPathExtension="sub", Filename="y.json")
    answered, other = result(aws, taken), result(aws, inline)
    described = aws.client("sagemaker").describe_endpoint(EndpointName="queued")
    kind = (object_at(aws, taken["OutputLocation"]) or {})["ContentType"]
    aws.destroy("queued")

    assert (taken["ResponseMetadata"]["HTTPStatusCode"], taken["InferenceId"]) == (202, "mine")
    assert taken["OutputLocation"].startswith(f"s3://{BUCKET}/results/") and taken["OutputLocation"].endswith(".out")
    assert taken["FailureLocation"].startswith(f"s3://{BUCKET}/failed/")
    assert inline["OutputLocation"] == f"s3://{BUCKET}/results/sub/y.json"
    assert (answered["model"], answered["asked"], other["asked"]) == ("a", {"inputs": "x"}, {"inputs": "y"})
    assert answered["headers"]["x-amzn-sagemaker-custom-attributes"] == "trace=7"
    assert kind == "application/json"
    assert described["AsyncInferenceConfig"]["OutputConfig"] == OUTPUT


def test_a_failure_is_told_where_failures_go_and_leaves_no_result(aws: Embedded) -> None:
    aws.deploy("failing", queued("failing", {"MODEL_NAME": "a"}))

    refused = send(aws, "failing", InputLocation=put(aws, status=507))
    nothing = send(aws, "failing", InputLocation=f"s3://{BUCKET}/inputs/nothing.json")
    slow = send(aws, "failing", InputLocation=put(aws, sleep=30), InvocationTimeoutSeconds=1)
    told = [failure(aws, taken) for taken in (refused, nothing, slow)]
    results = [object_at(aws, taken["OutputLocation"]) for taken in (refused, nothing, slow)]
    aws.destroy("failing")

    assert "Received server error (507) from AllTraffic" in told[0]
    assert f"the input s3://{BUCKET}/inputs/nothing.json cannot be downloaded" in told[1]
    assert "no answer within 1 s" in told[2]
    assert results == [None, None, None]


def test_only_so_many_requests_are_at_work_at_once_the_first_ones_first(aws: Embedded) -> None:
    aws.deploy("narrow", queued("narrow", {"MODEL_NAME": "a"}, at_once=1))
    began = time.monotonic()

    taken = [send(aws, "narrow", InputLocation=put(aws, sleep=0.4, number=number)) for number in range(3)]
    for each in taken:
        result(aws, each)
    seconds = time.monotonic() - began
    ends = [(object_at(aws, each["OutputLocation"]) or {})["LastModified"] for each in taken]
    aws.destroy("narrow")

    assert seconds > 1.2, "one after the other"
    assert ends == sorted(ends)


def test_a_request_that_waits_outlives_an_update_and_meets_the_new_model(aws: Embedded) -> None:
    aws.deploy("outlived", queued("outlived", {"MODEL_NAME": "old"}, at_once=1))
    first = send(aws, "outlived", InputLocation=put(aws, sleep=60))
    waiting = send(aws, "outlived", InputLocation=put(aws))

    updated = aws.deploy("outlived", queued("outlived", {"MODEL_NAME": "new"}, at_once=1))
    last = result(aws, send(aws, "outlived", InputLocation=put(aws)))
    broken = failure(aws, first)
    answered = result(aws, waiting)
    aws.destroy("outlived")

    assert updated.status == "UPDATE_COMPLETE"
    assert "broke the connection" in broken, "the one at work ends with its container"
    assert [each["model"] for each in (answered, last)] == ["new", "new"]


def test_topics_are_told_of_results_and_failures(aws: Embedded) -> None:
    sns, sqs = aws.client("sns"), aws.client("sqs")
    queue = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="told")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    topics = {"SuccessTopic": topic, "ErrorTopic": topic}
    aws.deploy("told", queued("told", {"MODEL_NAME": "a"}, NotificationConfig=topics))

    where = put(aws)
    good = send(aws, "told", InputLocation=where, InferenceId="good")
    bad = send(aws, "told", InputLocation=put(aws, status=400), InferenceId="bad")
    messages: dict[str, Any] = {}

    def both() -> bool:
        for each in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            told = json.loads(each["Body"])
            messages[told["inferenceId"]] = told
        return len(messages) == 2

    until(both)
    aws.destroy("told")

    assert messages["good"]["invocationStatus"] == "Completed"
    assert messages["good"]["requestParameters"]["inputLocation"] == where
    assert messages["good"]["responseParameters"]["outputLocation"] == good["OutputLocation"]
    assert messages["bad"]["invocationStatus"] == "Failed"
    assert "client error (400)" in messages["bad"]["failureReason"]
    assert messages["bad"]["responseParameters"]["outputLocation"] == bad["FailureLocation"]


def test_each_kind_of_endpoint_refuses_the_other_kind_of_request(aws: Embedded) -> None:
    aws.deploy("kinds-a", queued("kinds-a", {"MODEL_NAME": "a"}))
    aws.deploy("kinds-b", stack("kinds-b", {"MODEL_NAME": "b"}))
    runtime = aws.client("sagemaker-runtime")

    with pytest.raises(ClientError, match="kinds-a has an AsyncInferenceConfig; use InvokeEndpointAsync"):
        runtime.invoke_endpoint(EndpointName="kinds-a", Body=b"{}")
    with pytest.raises(ClientError, match="kinds-b has no AsyncInferenceConfig; use InvokeEndpoint"):
        send(aws, "kinds-b", InputLocation=put(aws))
    with pytest.raises(ClientError, match="Endpoint kinds-c is not found"):
        send(aws, "kinds-c", InputLocation=put(aws))
    with pytest.raises(ClientError, match="give InputLocation or a body, and not both"):
        send(aws, "kinds-a")
    with pytest.raises(ClientError, match="reads s3://bucket/key"):
        send(aws, "kinds-a", InputLocation="https://example.com/x")
    for name in ("kinds-a", "kinds-b"):
        aws.destroy(name)


def test_a_configuration_that_cannot_be_asynchronous_is_refused(aws: Embedded) -> None:
    sagemaker = aws.client("sagemaker")
    variant = {"VariantName": "v", "InstanceType": "ml.c6i.xlarge", "InitialInstanceCount": 1}
    asked = {"EndpointConfigName": "nowhere", "ExecutionRoleArn": ROLE, "ProductionVariants": [variant]}

    with pytest.raises(ClientError, match="variants with models of their own"):
        sagemaker.create_endpoint_config(**asked, AsyncInferenceConfig={"OutputConfig": OUTPUT})
    sagemaker.create_model(
        ModelName="nowhere", ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/m:1"},
    )  # fmt: skip
    variant["ModelName"] = "nowhere"
    with pytest.raises(ClientError, match="OutputConfig needs S3OutputPath"):
        sagemaker.create_endpoint_config(**asked, AsyncInferenceConfig={"OutputConfig": {}})
    sagemaker.delete_model(ModelName="nowhere")


def test_a_deleted_endpoint_takes_what_waits_with_it(aws: Embedded, tmp_path: Path) -> None:
    aws.deploy("deleted", queued("deleted", {"MODEL_NAME": "a"}, at_once=1))
    send(aws, "deleted", InputLocation=put(aws, sleep=30))
    waiting = send(aws, "deleted", InputLocation=put(aws))

    gone = aws.destroy("deleted")
    aws.deploy("deleted", queued("deleted", {"MODEL_NAME": "b"}, at_once=1))
    answered = result(aws, send(aws, "deleted", InputLocation=put(aws)))
    left = [object_at(aws, waiting[where]) for where in ("OutputLocation", "FailureLocation")]
    aws.destroy("deleted")

    assert gone.status == "DELETE_COMPLETE"
    assert answered["model"] == "b", "a new endpoint of the name has a queue of its own"
    assert left == [None, None]
