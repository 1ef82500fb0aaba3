"""What CloudFormation is answered: every fault, cut to its length, put until it arrives, over HTTP only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from heavylift.benchmark.answer import Answer, body, send
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import Reply, fake_endpoint
from tests.gate_account import Account, account, good


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with account(monkeypatch, good) as made:
        yield made


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
