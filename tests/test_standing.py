"""The benchmark of an endpoint that stands: its Lambda on moto and a real endpoint, its stack's template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.stage import GateClosed
from heavylift.benchmark.standing import handler
from stacks.benchmark import BenchmarkStack
from stacks.foundation import FoundationStack
from tests.benchmark_documents import benchmark_document
from tests.cdk import FLAGS, App, plan
from tests.fake_endpoint import right_answers
from tests.gate_account import TOO_FAST, Account, Context, account


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Account, pytest.MonkeyPatch]]:
    with account(monkeypatch, lambda number, body: right_answers(json.loads(body))) as there:
        monkeypatch.setenv("ENDPOINT_NAME", "tiny-t5")
        yield there, monkeypatch


def test_an_endpoint_that_stands_is_measured_its_report_kept_and_the_metric_put(
    standing: tuple[Account, pytest.MonkeyPatch],
) -> None:
    there, environment = standing

    found = []
    for slo in (benchmark_document()["slo"], TOO_FAST):
        environment.setenv("BENCHMARK", json.dumps(benchmark_document(slo=slo)))
        found.append(handler({}, Context()))

    assert [each["Verdict"] for each in found] == ["PASS", "FAIL"]
    assert there.violations == [0.0, 1.0]
    for each in found:
        report = json.loads(there.document(each["ReportUri"]))
        assert report["verdict"] == each["Verdict"]
        assert report["endpoint_config"] == "config-1"
    assert "missed its targets" in found[1]["Reason"]
    assert there.cloudformation.heard == [], "nobody waits for an answer"


@pytest.mark.parametrize(
    ("changes", "endpoint", "told"),
    [
        ({"max_seconds": 3000}, "tiny-t5", "max_seconds is 3000; this Lambda has time for at most 810"),
        ({}, "gone", "there is no endpoint gone"),
        ({"load": {"mode": "open", "arrivals": "poisson", "rate": 5, "generators": 2}}, "tiny-t5", "state machine"),
    ],
)
def test_what_cannot_be_measured_is_said(
    standing: tuple[Account, pytest.MonkeyPatch], changes: dict[str, Any], endpoint: str, told: str
) -> None:
    there, environment = standing
    environment.setenv("BENCHMARK", json.dumps(benchmark_document(**changes)))
    environment.setenv("ENDPOINT_NAME", endpoint)

    with pytest.raises(GateClosed, match=told):
        handler({}, Context())

    assert there.kept == [] and there.violations == []


def test_an_environment_that_says_nothing_or_nonsense_is_refused(
    standing: tuple[Account, pytest.MonkeyPatch],
) -> None:
    _, environment = standing

    with pytest.raises(GateClosed, match="lacks BENCHMARK"):
        handler({}, Context())
    environment.setenv("BENCHMARK", "{}")
    with pytest.raises(FormatError):
        handler({}, Context())


def template(folder: Path, schedule: str | None, **changes: Any) -> dict[str, Any]:
    """The stack's resources."""
    app = App(outdir=str(folder), context=FLAGS)
    made = plan()
    assert made.benchmark is not None
    made = replace(made, benchmark=replace(made.benchmark, **changes))
    foundation = FoundationStack(app, "heavylift-foundation")
    BenchmarkStack(app, "heavylift-tiny-t5-benchmark", plan=made, foundation=foundation, schedule=schedule)
    assembly = app.synth()
    artifact = assembly.get_stack_artifact("heavylift-tiny-t5-benchmark")
    resources: dict[str, Any] = json.loads((folder / artifact.template_file).read_text())["Resources"]
    return resources


def of_type(resources: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [each["Properties"] for each in resources.values() if each["Type"] == kind]


def test_the_stack_runs_the_gate_s_code_once_at_a_time_with_the_rights_of_a_measurement(tmp_path: Path) -> None:
    resources = template(tmp_path, "rate(1 day)")

    (function,) = of_type(resources, "AWS::Lambda::Function")
    assert function["Handler"] == "heavylift.benchmark.standing.handler"
    assert function["Environment"]["Variables"]["ENDPOINT_NAME"] == "tiny-t5"
    (once,) = of_type(resources, "AWS::Lambda::EventInvokeConfig")
    assert once["MaximumRetryAttempts"] == 0
    (rule,) = of_type(resources, "AWS::Events::Rule")
    assert rule["ScheduleExpression"] == "rate(1 day)"
    assert rule["Targets"][0]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    assert len(of_type(resources, "AWS::CloudWatch::Alarm")) == 1
    statements = of_type(resources, "AWS::IAM::Policy")[0]["PolicyDocument"]["Statement"]
    listed = [each["Action"] if isinstance(each["Action"], list) else [each["Action"]] for each in statements]
    actions = {action for each in listed for action in each}
    assert {"sagemaker:InvokeEndpoint", "cloudwatch:GetMetricData", "s3:PutObject"} <= actions
    assert not actions & {"s3:GetObject", "cloudformation:DescribeStacks", "lambda:InvokeFunction"}
    wide = [each["Action"] for each in statements if each["Resource"] == "*"]
    assert sorted(map(str, wide)) == ["cloudwatch:GetMetricData", "cloudwatch:PutMetricData"]


def test_by_hand_there_is_no_rule_and_what_one_lambda_cannot_run_is_an_error(tmp_path: Path) -> None:
    by_hand = template(tmp_path / "hand", None)

    assert of_type(by_hand, "AWS::Events::Rule") == []
    with pytest.raises(RuntimeError, match=r"'benchmark.max_seconds' must be at most 780 for one Lambda: got 3000"):
        template(tmp_path / "long", None, max_seconds=3000)
