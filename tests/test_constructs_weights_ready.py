"""The Lambda of WeightsReady, on its own: what it says, and that it always answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.backends import get_backend

STACK = "heavylift-tiny-t5"
BUCKET = "weights-bucket"
KEYS = ["weights/a1/manifest.json", "config/b2/manifest.json"]
CONTEXT = SimpleNamespace(log_stream_name="2026/11/20/[$LATEST]abc")


@pytest.fixture(scope="module")
def lambda_() -> ModuleType:
    """The handler's module."""
    from heavylift_cdk.lambdas import weights_ready

    return weights_ready


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        topic = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
        boto3.client("cloudformation").create_stack(StackName=STACK, TemplateBody=json.dumps(topic))
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def cloudformation() -> Iterator[SimpleNamespace]:
    """A server that keeps the one reply put to it; `url` and `reply()`."""
    replies: list[tuple[str, dict[str, Any]]] = []

    class Keeper(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            replies.append((self.headers["Content-Type"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Keeper) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/put", replies=replies)
        server.shutdown()
        thread.join()


def event(kind: str, url: str) -> dict[str, Any]:
    return {
        "RequestType": kind,
        "ResponseURL": url,
        "StackId": STACK,
        "RequestId": "request",
        "LogicalResourceId": "WeightsReady",
        "ResourceProperties": {
            "Bucket": BUCKET,
            "Keys": KEYS,
            "Model": "tiny-t5",
            "ModelFile": "models/tiny-t5.yaml",
        },
    }


def test_both_manifests_there_is_success(lambda_: ModuleType, s3: Any, cloudformation: SimpleNamespace) -> None:
    for key in KEYS:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}")

    lambda_.handler(event("Create", cloudformation.url), CONTEXT)

    ((content_type, reply),) = cloudformation.replies
    assert content_type == ""  # CloudFormation signed the URL for none
    assert reply["Status"] == "SUCCESS"
    assert (reply["RequestId"], reply["LogicalResourceId"]) == ("request", "WeightsReady")


@pytest.mark.parametrize(("present", "folder"), [(KEYS[:1], "config/b2/"), (KEYS[1:], "weights/a1/"), ([], "weights/")])
@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_a_missing_manifest_fails_with_the_command_to_run(
    lambda_: ModuleType, s3: Any, cloudformation: SimpleNamespace, present: list[str], folder: str, kind: str
) -> None:
    for key in present:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}")
    s3.put_object(Bucket=BUCKET, Key="weights/a1/manifest.json.partial", Body=b"{")

    lambda_.handler(event(kind, cloudformation.url), CONTEXT)

    ((_, reply),) = cloudformation.replies
    assert reply["Status"] == "FAILED"
    assert f"the weights of tiny-t5 are not in s3://{BUCKET}/{folder}" in reply["Reason"]
    assert reply["Reason"].endswith("run 'heavylift weights push models/tiny-t5.yaml'")


def test_a_bucket_that_is_gone_is_a_failure_and_not_a_silence(
    lambda_: ModuleType, s3: Any, cloudformation: SimpleNamespace
) -> None:
    s3.delete_bucket(Bucket=BUCKET)

    lambda_.handler(event("Create", cloudformation.url), CONTEXT)

    ((_, reply),) = cloudformation.replies
    assert reply["Status"] == "FAILED"
    assert reply["Reason"].startswith("cannot look for the weights: ")


def test_a_stack_that_rolls_back_is_not_held_up(lambda_: ModuleType, s3: Any, cloudformation: SimpleNamespace) -> None:
    (stack,) = get_backend("cloudformation")["123456789012"]["us-east-1"].stacks.values()
    stack.status = "UPDATE_ROLLBACK_IN_PROGRESS"

    lambda_.handler(event("Update", cloudformation.url), CONTEXT)

    ((_, reply),) = cloudformation.replies
    assert reply["Status"] == "SUCCESS"


def test_a_deletion_succeeds_without_a_look(lambda_: ModuleType, cloudformation: SimpleNamespace) -> None:
    gone = event("Delete", cloudformation.url) | {"PhysicalResourceId": "WeightsReady-made-earlier"}

    lambda_.handler(gone, CONTEXT)

    ((_, reply),) = cloudformation.replies
    assert (reply["Status"], reply["PhysicalResourceId"]) == ("SUCCESS", "WeightsReady-made-earlier")
