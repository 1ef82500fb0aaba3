"""The gate's Lambda, end to end: moto's S3, SageMaker, CloudFormation; a real endpoint and ResponseURL on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.cloudformation.models import cloudformation_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.sagemaker.models import sagemaker_backends

from heavylift.benchmark.answer import Answer, body, physical_id, send
from heavylift.benchmark.handler import Held, handler
from heavylift.benchmark.lease import Lease
from heavylift.benchmark.merge import in_sequence, side_by_side
from heavylift.benchmark.outcome import decide
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from tests.benchmark_documents import benchmark_document, recorded
from tests.fake_endpoint import FakeEndpoint, Reply, fake_endpoint, model_error, right_answers

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


@pytest.mark.parametrize(
    ("on_fail", "status", "decision", "said"),
    [
        ("rollback", "FAILED", "rolled back", "(FAIL); report"),
        ("hold", "SUCCESS", "held", "(FAIL), and is held for you to decide; report"),
        ("warn", "SUCCESS", "warned", "(FAIL), and stays with a warning; report"),
    ],
)
def test_what_a_missed_target_does_is_the_users_choice(
    aws: Account, on_fail: str, status: str, decision: str, said: str
) -> None:
    told = aws.call(aws.event(slo=TOO_FAST, on_fail=on_fail))

    assert (told["Status"], told["Data"]["Verdict"], told["Data"]["Decision"]) == (status, "FAIL", decision)
    assert said in told["Reason"]
    assert aws.violations == [1.0]


def test_the_metric_says_what_was_judged_and_nothing_else(aws: Account) -> None:
    aws.call(aws.event())
    aws.call(aws.event(request="void", requests=100_000, warmup_requests=0, max_seconds=10), Context(seconds=90.2))
    aws.call(aws.event(request="slow", slo=TOO_FAST))

    assert aws.violations == [0.0, 1.0]


def test_a_rollback_clears_the_metric_so_that_no_alarm_outlives_its_cause(aws: Account) -> None:
    aws.call(aws.event(slo=TOO_FAST))
    cloudformation_backends["123456789012"]["us-east-1"].stacks[aws.stack_id].status = "UPDATE_ROLLBACK_IN_PROGRESS"

    aws.call(aws.event("Update", request="request-2", slo=TOO_FAST))

    assert aws.violations == [1.0, 0.0]


def test_a_metric_that_cannot_be_put_does_not_decide_over_the_deployment(
    aws: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_endpoint(lambda n, b: Reply(403)) as denied:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", denied.url)
        told = aws.call(aws.event())

    assert denied.heard
    assert (told["Status"], told["Data"]["Verdict"]) == ("SUCCESS", "PASS")


@pytest.mark.parametrize(
    ("verdict", "on_fail", "on_inconclusive", "decision"),
    [
        ("PASS", "rollback", "fail", "passed"),
        ("INCONCLUSIVE", "rollback", "fail", "rolled back"),
        ("INCONCLUSIVE", "hold", "fail", "held"),
        ("INCONCLUSIVE", "rollback", "pass", "warned"),
        ("VOID", "rollback", "pass", "rolled back"),
        ("VOID", "warn", "fail", "warned"),
        ("FAIL", "rollback", "pass", "rolled back"),
    ],
)
def test_an_undecided_run_follows_its_own_policy_and_a_void_one_never_does(
    verdict: str, on_fail: str, on_inconclusive: str, decision: str
) -> None:
    benchmark = Benchmark.from_dict(benchmark_document(on_fail=on_fail, on_inconclusive=on_inconclusive))

    assert decide(verdict, benchmark) == decision


def test_two_deliveries_of_one_request_benchmark_once(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def deliver_again(number: int, request: bytes) -> Reply:
        if number == 2:  # in the middle of the first delivery's benchmark
            again = partial(handler, aws.event(), Context(), pause=lambda seconds: time.sleep(0.05))
            threads.append(threading.Thread(target=again))
            threads[0].start()
        return good(number, request)

    with account(monkeypatch, deliver_again) as aws:
        aws.call(aws.event())
        threads[0].join()
        told = [json.loads(heard[3]) for heard in aws.cloudformation.heard]
        requests = len(aws.endpoint.heard)

    document = benchmark_document()
    assert requests == document["warmup_requests"] + document["requests"]
    assert len(told) == 2 and told[0] == told[1]


def test_a_lease_is_held_by_one_and_ends_with_its_time(aws: Account) -> None:
    now = [1000.0]
    first, second = (Lease(BUCKET, "tiny-t5", "r/1", clock=lambda: now[0]) for _ in range(2))

    assert first.take(60) and not second.take(60)
    now[0] += 59
    assert not second.take(60)
    now[0] += 1
    assert second.take(60) and not first.take(60)
    assert Lease(BUCKET, "tiny-t5", "r/1", part=2, clock=lambda: now[0]).take(1)
    assert aws.kept == ["reports/tiny-t5/.answers/r%2F1.lease-1", "reports/tiny-t5/.answers/r%2F1.lease-2"]


def test_a_delivery_that_finds_the_request_held_to_its_end_lets_lambda_call_again(aws: Account) -> None:
    assert Lease(BUCKET, "tiny-t5", "request-1").take(1000)
    pauses: list[float] = []

    with pytest.raises(Held, match="another delivery of request-1"):
        handler(aws.event(), Context(seconds=10), pause=pauses.append)

    assert aws.cloudformation.heard == [] and aws.endpoint.heard == []


def test_a_run_longer_than_one_lambda_goes_on_in_another_and_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(number: int, request: bytes) -> Reply:
        time.sleep(0.01)
        return good(number, request)

    with account(monkeypatch, slow) as aws:
        event = aws.event(requests=120, warmup_requests=2, max_seconds=300)
        seconds, legs = (90.4, 90.4, 900), 0
        while not aws.cloudformation.heard:
            handler(event, Context(seconds[legs]))
            legs += 1
            if legs <= len(aws.functions.heard):
                method, path, headers, body = aws.functions.heard[-1]
                assert (method, headers["X-Amz-Invocation-Type"]) == ("POST", "Event")
                assert path.endswith("function%3Agate/invocations")
                event = json.loads(body)
        told = json.loads(aws.cloudformation.heard[0][3])
        report = json.loads(aws.document(told["Data"]["ReportUri"]))
        recording = Recording.decode(aws.document(report["samples"]))
        run = report["run"]
        kept = [key for key in aws.kept if "/legs/" in key]

    assert legs == 3
    assert (told["Status"], told["Data"]["Verdict"]) == ("SUCCESS", "PASS")
    assert kept == [f"reports/tiny-t5/{run}/legs/{number}.jsonl.gz" for number in (1, 2)]
    assert (len(recording.measured), report["requests"]["warmup"]) == (120, 6)
    assert recording.run.benchmark.requests == 120 and recording.run.benchmark.seed == 7
    assert [sample.index for sample in recording.samples] == list(range(126))
    assert all(a.end_s <= b.intended_s + 1e-9 for a, b in pairwise(recording.samples)), "one after the other"


def test_a_hopeless_endpoint_is_failed_after_the_first_leg(aws: Account) -> None:
    event = aws.event(requests=5_000, warmup_requests=0, slo=TOO_FAST)

    handler(event, Context(seconds=90.4))

    told = json.loads(aws.cloudformation.heard[0][3])
    report = json.loads(aws.document(told["Data"]["ReportUri"]))
    assert aws.functions.heard == []
    assert (told["Data"]["Verdict"], report["requests"]["measured"]) == ("FAIL", 10)


def test_legs_of_other_runs_are_not_merged() -> None:
    a, b = recorded([10.0]), recorded([10.0], endpoint_config="config-2")

    with pytest.raises(FormatError, match="their endpoint_config is config-1, config-2"):
        in_sequence([a, b], a.run.benchmark)


def test_a_leg_that_saw_another_config_makes_the_whole_void() -> None:
    a, b = recorded([10.0]), recorded([10.0], observed_endpoint_config="config-2")

    assert judge(in_sequence([a, b], a.run.benchmark)).verdict == "VOID"


@pytest.mark.parametrize("shards", [1, 8])
def test_the_shards_of_a_run_are_the_run(shards: int) -> None:
    whole = recorded([10.0 + index % 37 for index in range(333)])
    parts = [replace(whole, samples=whole.samples[start::shards]) for start in range(shards)]

    merged = side_by_side(parts, whole.run.benchmark)

    assert merged.samples == whole.samples
    assert judge(merged).judgements == judge(whole).judgements


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
    told = aws.call(aws.event(requests=100_000, warmup_requests=0, max_seconds=10), Context(seconds=90.2))

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
        ({"EndpointName": "absent"}, "there is no endpoint absent"),
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
