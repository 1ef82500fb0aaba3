"""A gate whose stack is taken back while it measures, and stages that are promoted or undone whatever happens."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from moto.cloudformation.models import cloudformation_backends

from heavylift.benchmark import gate as gates
from heavylift.benchmark import loop as loops
from heavylift.benchmark.gate import Gate, Leg
from heavylift.benchmark.handler import handler
from heavylift.benchmark.stage import GateClosed, Place
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import Reply
from tests.gate_account import BUCKET, TOO_FAST, Account, Context, account, good


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setattr(loops, "ASK_S", 0.05)
    with account(monkeypatch, good) as made:
        yield made


def taken_back(aws: Account, status: str) -> None:
    cloudformation_backends["123456789012"]["us-east-1"].stacks[aws.stack_id].status = status


@pytest.mark.slow
@pytest.mark.parametrize("status", ["ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "DELETE_IN_PROGRESS"])
def test_a_run_ends_when_its_stack_is_taken_back(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    monkeypatch.setattr(loops, "ASK_S", 0.05)

    def script(number: int, body: bytes) -> Reply:
        if number == 20:
            taken_back(made, status)
        return good(number, body)

    with account(monkeypatch, script) as made:
        told = made.call(made.event(requests=100_000, warmup_requests=0))
        heard = len(made.endpoint.heard)

    assert told["Status"] == "SUCCESS", "a red answer would leave the stack in UPDATE_ROLLBACK_FAILED"
    assert f"no benchmark any more: the stack is {status}" in told["Reason"]
    assert heard < 100_000
    assert not [key for key in aws_keys(told) if key.endswith("report.json")]


def aws_keys(told: dict[str, Any]) -> list[str]:
    return [str(value) for value in told.get("Data", {}).values()]


class Scripted:
    """A stage that is ready after so many questions; what it was told."""

    def __init__(self, waits: int = 0, fault: str | None = None) -> None:
        self.place, self.waits, self.fault = Place("tiny-t5", "config-1"), waits, fault
        self.told: list[str] = []

    def ready(self) -> bool:
        if self.fault is not None:
            raise GateClosed(self.fault)
        self.waits -= 1
        return self.waits < 0

    def promote(self) -> bool:
        self.told.append("promote")
        return True

    def undo(self) -> bool:
        self.told.append("undo")
        return len(self.told) > 1


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    stage = Scripted()
    monkeypatch.setattr(gates, "STAGED", {"staging": lambda endpoint, config: stage})
    monkeypatch.setattr(gates, "replaces", lambda endpoint, config: True)
    return stage


def asked(aws: Account, **benchmark: Any) -> dict[str, Any]:
    event = aws.event("Update", **benchmark)
    event["ResourceProperties"]["Strategy"] = "staging"
    return event


def quick(seconds: float) -> None:
    """No pause."""


def test_a_stage_is_promoted_by_a_pass_and_undone_by_a_miss(aws: Account, staged: Scripted) -> None:
    staged.waits = 3
    handler(asked(aws), Context(), pause=quick)
    passed = json.loads(aws.cloudformation.heard[-1][3])
    promoted = list(staged.told)
    staged.told.clear()

    handler(asked(aws, request="request-2", slo=TOO_FAST, on_fail="hold"), Context(), pause=quick)
    missed = json.loads(aws.cloudformation.heard[-1][3])

    assert (passed["Status"], promoted) == ("SUCCESS", ["promote"])
    assert (missed["Status"], missed["Data"]) == (
        "FAILED", {**missed["Data"], "Verdict": "FAIL", "Decision": "rolled back"},
    )  # fmt: skip
    assert staged.told == ["undo", "undo"], "until it is done"
    assert aws.violations == [], "what never served has violated nothing"


def test_a_stage_that_cannot_get_ready_is_undone_and_told(aws: Account, staged: Scripted) -> None:
    staged.fault = "the staging endpoint tiny-t5-staging is Failed: no capacity"

    handler(asked(aws), Context(), pause=quick)

    told = json.loads(aws.cloudformation.heard[-1][3])
    assert (told["Status"], told["Reason"]) == ("FAILED", staged.fault)
    assert staged.told == ["undo", "undo"]


def test_a_stage_that_takes_longer_than_one_lambda_is_waited_for_by_the_next(aws: Account, staged: Scripted) -> None:
    staged.waits = 10**9
    gate = Gate.from_properties(asked(aws)["ResourceProperties"])

    first = gate.run(bucket=BUCKET, seconds_left=260.5, pause=quick)
    assert isinstance(first, Leg)
    staged.waits = 0
    second = gate.run(bucket=BUCKET, seconds_left=900, leg=first, pause=quick)

    assert (first.number, first.waits, first.part) == (1, 1, 2)
    assert not isinstance(second, Leg) and staged.told == ["promote"]


def test_a_stage_that_is_never_ready_is_given_up_within_cloudformations_hour(aws: Account, staged: Scripted) -> None:
    staged.waits = 10**9
    gate = Gate.from_properties(asked(aws)["ResourceProperties"])

    with pytest.raises(GateClosed, match="tiny-t5 was not in service after 3"):
        gate.run(bucket=BUCKET, seconds_left=260.5, leg=Leg("r", waits=4, since=time.time() - 3500), pause=quick)

    assert staged.told == ["undo", "undo"]


def test_the_gate_after_a_promotion_asserts_the_config_and_tells_what_was_measured(aws: Account) -> None:
    event = aws.event("Update")
    event["ResourceProperties"] |= {"Strategy": "staging", "Before": "PASS", "BeforeReport": "s3://b/report.json"}

    told = aws.call(event)
    event["ResourceProperties"]["EndpointConfigName"] = "config-2"
    strange = aws.call(event | {"RequestId": "request-2"})

    assert (told["Status"], told["Data"]["Verdict"]) == ("SUCCESS", "PASS")
    assert told["Data"]["ReportUri"] == "s3://b/report.json"
    assert aws.endpoint.heard == [], "it was measured before it served"
    assert aws.violations == [0.0]
    assert strange["Status"] == "FAILED" and "not with config-2" in strange["Reason"]


def test_a_first_endpoint_is_measured_when_it_is_there(aws: Account) -> None:
    before = aws.event()
    before["ResourceProperties"] |= {"Strategy": "dark_variant", "EndpointName": "absent"}
    after = aws.event(request="request-2")
    after["ResourceProperties"] |= {"Strategy": "dark_variant", "Before": "NONE", "BeforeReport": "none"}

    nothing, measured = aws.call(before), aws.call(after)

    assert (nothing["Status"], nothing["Data"]["Verdict"]) == ("SUCCESS", "NONE")
    assert (measured["Status"], measured["Data"]["Verdict"]) == ("SUCCESS", "PASS")
    assert len(aws.endpoint.heard) >= benchmark_document()["requests"]
