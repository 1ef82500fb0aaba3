"""The gate's Lambda, end to end: moto's S3, SageMaker, CloudFormation; a real endpoint and ResponseURL on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from moto.cloudformation.models import cloudformation_backends
from moto.sagemaker.models import sagemaker_backends

from heavylift.benchmark.answer import physical_id
from heavylift.benchmark.handler import handler
from heavylift.benchmark.outcome import decide
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import Reply, fake_endpoint, model_error
from tests.gate_account import BUCKET, TOO_FAST, Account, Context, account, good


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_hopeless_endpoint_is_failed_after_the_first_leg(aws: Account) -> None:
    event = aws.event(requests=5_000, warmup_requests=0, slo=TOO_FAST)

    handler(event, Context(seconds=90.4))

    told = json.loads(aws.cloudformation.heard[0][3])
    report = json.loads(aws.document(told["Data"]["ReportUri"]))
    assert aws.functions.heard == []
    assert (told["Data"]["Verdict"], report["requests"]["measured"]) == ("FAIL", 10)


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
