"""An account for the gate's Lambda: moto's S3, SageMaker, CloudFormation; an endpoint and ResponseURL on loopback.

Not a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.cloudwatch.models import cloudwatch_backends

from heavylift.benchmark.handler import handler
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import FakeEndpoint, Reply, fake_endpoint, right_answers

BUCKET = "reports-bucket"
TOO_FAST = [{"metric": "e2e_latency", "percentile": 90, "max_ms": 0.001}]
Script = Callable[[int, bytes], Reply]


class Context:
    """Lambda's context with so many seconds left."""

    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:gate"

    def __init__(self, seconds: float = 900) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


@dataclass
class Account:
    """A mocked account with the endpoint InService on config-1, and the servers on loopback."""

    stack_id: str
    endpoint: FakeEndpoint
    cloudformation: FakeEndpoint
    functions: FakeEndpoint

    def event(self, kind: str = "Create", request: str = "request-1", **benchmark: Any) -> dict[str, Any]:
        identity = {} if kind == "Create" else {"PhysicalResourceId": "heavylift-gate-0"}
        return {
            "RequestType": kind,
            "ResponseURL": f"{self.cloudformation.url}/answer?signature=x",
            "StackId": self.stack_id,
            "RequestId": request,
            "LogicalResourceId": "Gate",
            "ResourceProperties": {
                "ServiceToken": "arn",
                "EndpointName": "tiny-t5",
                "EndpointConfigName": "config-1",
                "GateDigest": "1a2b3c4d5e6f",
                "Benchmark": json.dumps(benchmark_document(**benchmark)),
            },
            **identity,
        }

    def call(self, event: dict[str, Any], context: Context | None = None) -> dict[str, Any]:
        """Run the handler; gives what CloudFormation was told."""
        handler(event, Context() if context is None else context)
        return dict(json.loads(self.cloudformation.heard[-1][3]))

    @property
    def violations(self) -> list[float]:
        """Every value of the metric SloViolation of the endpoint, in order."""
        put = cloudwatch_backends["123456789012"]["us-east-1"].metric_data
        assert all((datum.namespace, datum.name) == ("Heavylift", "SloViolation") for datum in put)
        assert all(
            [(each.name, each.value) for each in datum.dimensions] == [("EndpointName", "tiny-t5")] for datum in put
        )
        return [datum.value for datum in put]

    @property
    def kept(self) -> list[str]:
        """The keys in the report bucket."""
        return [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def document(self, uri: str) -> bytes:
        key = uri.removeprefix(f"s3://{BUCKET}/")
        return bytes(boto3.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())


@contextmanager
def account(monkeypatch: pytest.MonkeyPatch, script: Script) -> Iterator[Account]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("REPORTS_BUCKET", BUCKET)
    with (
        mock_aws(),
        fake_endpoint(script) as endpoint,
        fake_endpoint(lambda n, b: Reply(200)) as cloudformation,
        fake_endpoint(lambda n, b: Reply(202)) as functions,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", endpoint.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", functions.url)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        sagemaker = boto3.client("sagemaker")
        role = "arn:aws:iam::123456789012:role/r"
        sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer={"Image": "i"})
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.c5.xlarge", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="config-1", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="tiny-t5", EndpointConfigName="config-1")
        template = json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}})
        stack = boto3.client("cloudformation").create_stack(StackName="serving", TemplateBody=template)
        yield Account(stack["StackId"], endpoint, cloudformation, functions)


def good(number: int, request: bytes) -> Reply:
    return right_answers(json.loads(request))
