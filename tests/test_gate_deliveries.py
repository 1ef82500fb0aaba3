"""A request that is delivered twice, or runs longer than a Lambda: one benchmark, in legs or shards, judged once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from heavylift.benchmark.handler import Held, handler
from heavylift.benchmark.lease import Lease
from heavylift.benchmark.merge import in_sequence, side_by_side
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.verdict import judge
from tests.benchmark_documents import benchmark_document, recorded
from tests.fake_endpoint import Reply
from tests.gate_account import BUCKET, Account, Context, account, good


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    with account(monkeypatch, good) as made:
        yield made


def test_two_deliveries_of_one_request_benchmark_once(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def deliver_again(number: int, request: bytes) -> Reply:
        if number == 2:  # in the middle of the first delivery's benchmark
            again = partial(handler, made.event(), Context(), pause=lambda seconds: time.sleep(0.05))
            threads.append(threading.Thread(target=again))
            threads[0].start()
        return good(number, request)

    with account(monkeypatch, deliver_again) as made:
        made.call(made.event())
        threads[0].join()
        told = [json.loads(heard[3]) for heard in made.cloudformation.heard]
        requests = len(made.endpoint.heard)

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


@pytest.mark.slow
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
