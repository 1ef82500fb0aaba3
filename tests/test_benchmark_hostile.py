"""Endpoints that mean no good: stalls, drips, endless and monstrous replies; and a run that nobody waits for."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from heavylift.benchmark import client as clients
from heavylift.benchmark import loop as loops
from heavylift.benchmark.client import HttpClient, InvocationFailed
from heavylift.benchmark.loop import Loop, TakenBack
from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording, Sample
from heavylift.benchmark.schedule import Schedule
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.benchmark.workload import Workload
from tests.benchmark_documents import benchmark_document, recorded
from tests.fake_endpoint import FakeEndpoint, Reply, fake_endpoint, right_answers

P99 = [{"metric": "e2e_latency", "percentile": 99, "max_ms": 1000}]


def good(number: int, body: bytes) -> Reply:
    return right_answers(json.loads(body))


def driven(server: FakeEndpoint, patience: float, **changes: Any) -> tuple[Sample, ...]:
    asked = Benchmark.from_dict(benchmark_document(warmup_requests=0, requests=5, max_seconds=1.0, **changes))
    schedule = Schedule(asked, Workload.load(asked.workload, asked.seed))
    with HttpClient(server.url) as client:
        return Loop(asked, schedule, client, heard=lambda sample: None, patience=patience).drive()


@pytest.mark.slow
def test_ten_seconds_of_stall_are_in_the_tail_from_the_intended_send_and_hidden_from_a_waiting_client() -> None:
    """Everything that arrives while the server stands still waits until it moves on."""
    begin, moves = time.monotonic() + 2, threading.Event()

    def stalling(number: int, body: bytes) -> Reply:
        if begin < time.monotonic() < begin + 10:
            moves.wait(begin + 10 - time.monotonic())
        return good(number, body)

    open_load = {"mode": "open", "arrivals": "poisson", "rate": 20.0}
    common = {"warmup_requests": 0, "slo": P99, "max_lag_ms": 60_000, "max_seconds": 60}
    asked = Benchmark.from_dict(benchmark_document(load=open_load, requests=300, **common))
    with fake_endpoint(stalling) as server, HttpClient(server.url) as client:
        recording = measure(asked, client, run="r", endpoint="e")

    late = [sample.latency_ms for sample in recording.measured]
    assert 8_000 < percentile(late, 99) <= 20_000
    assert percentile(late, 90) > 5_000, "two thirds of the arrivals came while it stood still"
    assert judge(recording).verdict == "FAIL"

    begin = time.monotonic() + 2
    waiting = replace(asked, load=Benchmark.from_dict(benchmark_document()).load)
    with fake_endpoint(stalling) as server, HttpClient(server.url) as client:
        closed = measure(replace(waiting, requests=1500), client, run="r", endpoint="e")
    seen = [sample.latency_ms for sample in closed.measured]
    assert sum(value > 5_000 for value in seen) <= 1 and percentile(seen, 99) < 5_000, "what a closed load hides"


@pytest.mark.slow
def test_a_stream_that_drips_for_ever_is_a_timeout_and_the_run_ends() -> None:
    drip = Reply(200, parts=((0.05, b'{"token": {"text": "a"}}\n'),) * 100_000)  # for more than an hour

    with fake_endpoint(lambda n, body: drip) as server:
        samples = driven(server, 0.3, stream=True, slo=[])

    assert [sample.status for sample in samples] == ["timeout"]
    assert samples[0].error is not None and "no end of the reply 0.3 s after" in samples[0].error["message"]
    assert not any(row.correct for row in samples[0].rows)


@pytest.mark.slow
def test_a_probe_that_never_ends_does_not_hold_the_run() -> None:
    drip = Reply(200, parts=((0.05, b" "),) * 100_000)

    with fake_endpoint(lambda n, body: drip) as server:
        samples = driven(server, 0.3, probes=1)

    assert [(sample.phase, sample.status) for sample in samples] == [("quiet", "timeout")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_without_an_end_is_refused_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(clients, "MOST_REPLY", 100_000)
    flood = Reply(200, parts=tuple((0.0, b"x" * 50_000) for _ in range(10)))

    with (
        fake_endpoint(lambda n, body: flood) as server,
        HttpClient(server.url) as client,
        pytest.raises(InvocationFailed, match="longer than 100000 bytes") as caught,
    ):
        _ = list(client.stream(b"{}")) if stream else client.invoke(b"{}")

    assert caught.value.kind == "reply"


@pytest.mark.parametrize("count", [10**18, 10**400, -1, 1.5, True, "7", None])
def test_a_count_of_tokens_that_cannot_be_breaks_no_report(count: object) -> None:
    def lying(number: int, body: bytes) -> Reply:
        document = json.loads(good(number, body).body)
        document["details"] = [{**row, "generated_tokens": count} for row in document["details"]]
        return Reply(200, json.dumps(document).encode())

    slo = [{"metric": "tokens_per_second", "min": 1.0}]
    with fake_endpoint(lying) as server, HttpClient(server.url) as client:
        asked = Benchmark.from_dict(benchmark_document(requests=10, slo=slo))
        recording = measure(asked, client, run="r", endpoint="e")

    assert {sample.error["kind"] for sample in recording.measured if sample.error} == {"reply"}
    assert judge(recording).verdict != "PASS"
    assert json.loads(json.dumps(build_report(recording, judge(recording), samples="s")))


def test_a_run_that_nobody_waits_for_ends_and_sends_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "ASK_S", 0.05)
    asked = Benchmark.from_dict(benchmark_document(requests=100_000, warmup_requests=0))
    begun = time.monotonic()

    with fake_endpoint(good) as server, HttpClient(server.url) as client:
        with pytest.raises(TakenBack, match="the stack is ROLLBACK_IN_PROGRESS"):
            measure(
                asked, client, run="r", endpoint="e",
                taken_back=lambda: "the stack is ROLLBACK_IN_PROGRESS" if time.monotonic() > begun + 0.2 else None,
            )  # fmt: skip
        sent = len(server.heard)
        threading.Event().wait(0.2)
        assert len(server.heard) <= sent + 1, "at most the request that was under way"

    assert sent < 100_000


def test_a_wall_clock_that_jumps_changes_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600.0 * next(jumps))

    with fake_endpoint(good) as server, HttpClient(server.url) as client:
        recording = measure(Benchmark.from_dict(benchmark_document()), client, run="r", endpoint="e")

    assert judge(recording).verdict == "PASS"
    assert all(0 <= sample.intended_s <= sample.sent_s <= sample.end_s < 60 for sample in recording.samples)


def test_a_sample_file_that_was_tampered_with_for_a_better_verdict_needs_consistent_times() -> None:
    """An end before its send is no latency that passes."""
    whole = recorded([100.0] * 40)
    odd = replace(whole, samples=tuple(replace(each, end_s=each.sent_s / 2) for each in whole.samples))

    verdict = judge(Recording.decode(odd.encode()))

    assert verdict.verdict == "VOID"
    assert "ends before it was sent" in verdict.void[0]
