"""The gate's Lambda, end to end: moto's S3, SageMaker, CloudFormation; a real endpoint and ResponseURL on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.cloudformation.models import cloudformation_backends
from moto.sagemaker.models import sagemaker_backends

from heavylift.benchmark.answer import Answer, body, physical_id, send
from heavylift.benchmark.handler import handler
from heavylift.benchmark.samples import Recording
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import FakeEndpoint, Reply, fake_endpoint, model_error, right_answers

BUCKET = "reports-bucket"
TOO_FAST = [{"metric": "e2e_latency", "percentile": 90, "max_ms": 0.001}]
Script = Callable[[int, bytes], Reply]


class Context:
    """Lambda's context with so many seconds left."""

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
    with mock_aws(), fake_endpoint(script) as endpoint, fake_endpoint(lambda n, b: Reply(200)) as cloudformation:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", endpoint.url)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        sagemaker = boto3.client("sagemaker")
        role = "arn:aws:iam::123456789012:role/r"
        sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer={"Image": "i"})
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.c5.xlarge", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="config-1", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="tiny-t5", EndpointConfigName="config-1")
        template = json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}})
        stack = boto3.client("cloudformation").create_stack(StackName="serving", TemplateBody=template)
        yield Account(stack["StackId"], endpoint, cloudformation)


def good(number: int, request: bytes) -> Reply:
    return right_answers(json.loads(request))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with account(monkeypatch, good) as made:
        yield made


def test_an_endpoint_that_meets_its_targets_lets_the_deployment_go_on(aws: Account) -> None:
    told = aws.call(aws.event())

    assert told["Status"] == "SUCCESS"
    assert told["Data"]["Verdict"] == "PASS"
    assert [told[key] for key in ("StackId", "RequestId", "LogicalResourceId")] == [aws.stack_id, "request-1", "Gate"]
    report = json.loads(aws.document(told["Data"]["ReportUri"]))
    assert (report["verdict"], report["endpoint_config"], report["gate_digest"]) == ("PASS", "config-1", "1a2b3c4d5e6f")
    assert told["Data"]["ReportUri"] == f"s3://{BUCKET}/reports/tiny-t5/{report['run']}/report.json"
    recording = Recording.decode(aws.document(report["samples"]))
    assert (len(recording.measured), recording.run.observed_endpoint_config) == (30, "config-1")
    assert len(aws.endpoint.heard) == 32


def test_the_answer_is_a_put_with_an_empty_content_type(aws: Account) -> None:
    aws.call(aws.event())

    method, path, headers, _ = aws.cloudformation.heard[0]
    assert (method, path, headers["Content-Type"]) == ("PUT", "/answer?signature=x", "")
    assert len(aws.cloudformation.heard) == 1


def test_a_missed_target_fails_the_deployment_and_the_report_is_kept(aws: Account) -> None:
    told = aws.call(aws.event(slo=TOO_FAST))

    assert told["Status"] == "FAILED"
    assert "tiny-t5 missed its targets (FAIL)" in told["Reason"]
    assert "e2e_latency p90 is " in told["Reason"] and "limit 0.001 ms" in told["Reason"]
    uri = told["Data"]["ReportUri"]
    assert uri in told["Reason"]
    assert json.loads(aws.document(uri))["verdict"] == "FAIL"


def test_on_fail_warn_lets_a_missed_target_pass_and_says_so(aws: Account) -> None:
    told = aws.call(aws.event(slo=TOO_FAST, on_fail="warn"))

    assert (told["Status"], told["Data"]["Verdict"]) == ("SUCCESS", "FAIL")
    assert "missed its targets" in told["Reason"]


def test_a_container_that_fails_every_request_fails_the_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    with account(monkeypatch, lambda n, b: model_error(424, "CUDA out of memory")) as aws:
        told = aws.call(aws.event())
        report = json.loads(aws.document(told["Data"]["ReportUri"]))

    assert told["Status"] == "FAILED"
    assert "error_rate is 100 %, limit 0 %" in told["Reason"]
    assert report["errors"] == {"rate": 1.0, "by_kind": {"model": 10}}, "a hopeless endpoint is failed early"


def test_a_delete_succeeds_at_once_with_the_id_it_came_with(aws: Account) -> None:
    told = aws.call(aws.event("Delete"))

    assert (told["Status"], told["PhysicalResourceId"]) == ("SUCCESS", "heavylift-gate-0")
    assert aws.endpoint.heard == [] and aws.kept == []


@pytest.mark.parametrize("status", ["ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS"])
def test_a_stack_that_rolls_back_is_never_benchmarked(aws: Account, status: str) -> None:
    cloudformation_backends["123456789012"]["us-east-1"].stacks[aws.stack_id].status = status

    told = aws.call(aws.event("Update", slo=TOO_FAST))

    assert told["Status"] == "SUCCESS"
    assert status in told["Reason"]
    assert aws.endpoint.heard == [] and aws.kept == []


def test_an_endpoint_on_another_config_is_not_benchmarked(aws: Account) -> None:
    event = aws.event("Update")
    event["ResourceProperties"]["EndpointConfigName"] = "config-2"

    told = aws.call(event)

    assert told["Status"] == "FAILED"
    assert "the endpoint tiny-t5 is InService with the config config-1, not with config-2" in told["Reason"]
    assert aws.endpoint.heard == []


def test_an_endpoint_that_is_not_in_service_is_not_benchmarked(aws: Account) -> None:
    sagemaker_backends["123456789012"]["us-east-1"].endpoints["tiny-t5"].endpoint_status = "Updating"

    told = aws.call(aws.event())

    assert told["Status"] == "FAILED"
    assert "the endpoint tiny-t5 is Updating, not InService" in told["Reason"]


def test_a_repeated_request_gets_the_same_answer_without_a_second_benchmark(aws: Account) -> None:
    first = aws.call(aws.event(slo=TOO_FAST))
    sent = len(aws.endpoint.heard)

    second = aws.call(aws.event(slo=TOO_FAST))
    third = aws.call(aws.event(request="request-2", slo=TOO_FAST))

    assert second == first
    assert len(aws.endpoint.heard) == 2 * sent
    assert third["RequestId"] == "request-2"


def test_the_physical_id_stays_the_same_over_updates(aws: Account) -> None:
    created = aws.call(aws.event())
    updated = aws.call(aws.event("Update", request="request-2"))

    assert created["PhysicalResourceId"] == updated["PhysicalResourceId"]
    assert physical_id({**aws.event(), "LogicalResourceId": "Other"}) != created["PhysicalResourceId"]


def test_a_lambda_with_too_little_time_answers_instead_of_being_killed(aws: Account) -> None:
    told = aws.call(aws.event(), Context(seconds=60))

    assert told["Status"] == "FAILED"
    assert "the Lambda has 60 s left; a benchmark needs more than 90 s: raise its timeout" in told["Reason"]
    assert aws.endpoint.heard == []


def test_a_benchmark_that_the_lambdas_time_cuts_short_is_void(aws: Account) -> None:
    told = aws.call(aws.event(requests=100_000, warmup_requests=0), Context(seconds=90.2))

    assert told["Status"] == "FAILED"
    assert told["Data"]["Verdict"] == "VOID"
    assert "of 100000 measured requests were sent in 0.2 s, the time limit" in told["Reason"]


@pytest.mark.parametrize(
    ("properties", "sentence"),
    [
        ({"Benchmark": "{"}, "the benchmark is not JSON"),
        (
            {"Benchmark": json.dumps(benchmark_document(format="heavylift.benchmark/9"))},
            "allowed: heavylift.benchmark/1",
        ),
        ({"Benchmark": json.dumps(benchmark_document(workload="five-tasks"))}, "known: four-tasks"),
        ({"GateDigest": None}, "the gate's properties lack GateDigest"),
        ({"EndpointName": "absent"}, "Could not find endpoint"),
    ],
)
def test_every_fault_is_answered_never_silent(aws: Account, properties: dict[str, Any], sentence: str) -> None:
    event = aws.event()
    event["ResourceProperties"] |= properties

    told = aws.call(event)

    assert told["Status"] == "FAILED"
    assert sentence in told["Reason"]


def test_a_missing_bucket_is_answered(aws: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPORTS_BUCKET")

    assert "no REPORTS_BUCKET" in aws.call(aws.event())["Reason"]


def test_a_long_reason_is_cut_to_what_cloudformation_takes(aws: Account) -> None:
    for text in ("x" * 100_000, "\N{GRINNING FACE}" * 5_000, "é" * 5_000):
        content = body(aws.event(), Answer("FAILED", text, {"Verdict": "FAIL", "ReportUri": "s3://b/k"}))

        assert 3_900 < len(content) <= 4096
        assert json.loads(content)["Data"]["ReportUri"] == "s3://b/k"


def test_an_answer_is_put_again_until_it_arrives(aws: Account) -> None:
    pauses: list[float] = []

    with fake_endpoint(lambda n, b: Reply(500 if n < 2 else 200)) as flaky:
        send({**aws.event(), "ResponseURL": flaky.url}, Answer("SUCCESS", "well"), pause=pauses.append)

    assert len(flaky.heard) == 3
    assert pauses == [1.0, 2.0]


def test_an_answer_that_cannot_be_delivered_is_raised_so_that_lambda_calls_again(aws: Account) -> None:
    with fake_endpoint(lambda n, b: Reply(403)) as closed, pytest.raises(OSError):
        send({**aws.event(), "ResponseURL": closed.url}, Answer("SUCCESS", "well"), pause=lambda seconds: None)

    assert len(closed.heard) == 5


def test_an_answer_goes_to_http_only() -> None:
    event = {"ResponseURL": "file:///tmp/x"}

    with pytest.raises(ValueError, match="not an http"):
        send(event, Answer("SUCCESS", "well"))


def test_answers_survive_their_json() -> None:
    answer = Answer("FAILED", "slow", {"Verdict": "FAIL"})

    assert Answer.from_json(answer.to_json()) == answer
    assert replace(answer, reason="") != answer
