"""The load: with a clock that only the scripted client moves, and over real HTTP."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.failure import InvocationFailed
from heavylift.benchmark.loop import Loop
from heavylift.benchmark.passage import Passage
from heavylift.benchmark.run import measure, run_name
from heavylift.benchmark.samples import Sample
from heavylift.benchmark.schedule import Schedule
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.workload import Workload
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import Reply, fake_endpoint, right_answers


class Scripted:
    """A client whose n-th call takes the n-th number of seconds on its own clock; a negative one fails after that."""

    def __init__(self, seconds: list[float]) -> None:
        self.now, self.seconds, self.bodies = 100.0, iter(seconds), list[bytes]()

    def clock(self) -> float:
        return self.now

    def invoke(self, body: bytes, passage: Passage | None = None) -> bytes:
        self.bodies.append(body)
        seconds = next(self.seconds)
        self.now += abs(seconds)
        if seconds < 0:
            raise InvocationFailed("model", "out of memory", 424)
        return right_answers(json.loads(body)).body

    def stream(self, body: bytes, passage: Passage | None = None) -> Iterator[bytes]:
        raise NotImplementedError


def loop(client: Scripted, *, seconds: float = 300.0, **changes: object) -> tuple[Sample, ...]:
    benchmark = Benchmark.from_dict(benchmark_document(**changes))
    schedule = Schedule(benchmark, Workload.load("four-tasks"), seconds=seconds)
    heard: list[Sample] = []
    samples = Loop(benchmark, schedule, client, heard=heard.append, clock=client.clock).drive()
    assert heard == list(samples)
    return samples


def test_one_client_sends_as_soon_as_it_has_its_reply() -> None:
    samples = loop(Scripted([1.0, 0.5, 0.25, 0.25, 2.0]), warmup_requests=2, requests=3)

    assert [(s.index, s.phase, s.intended_s, s.end_s) for s in samples] == [
        (0, "warmup", 0.0, 1.0),
        (1, "warmup", 1.0, 1.5),
        (2, "measure", 1.5, 1.75),
        (3, "measure", 1.75, 2.0),
        (4, "measure", 2.0, 4.0),
    ]
    assert all(s.ok and len(s.rows) == 4 and all(row.correct for row in s.rows) for s in samples)


def test_a_failed_request_is_recorded_with_its_rows_due_and_the_loop_goes_on() -> None:
    samples = loop(Scripted([1.0, -0.5, 0.25]), warmup_requests=0, requests=3)

    failed = samples[1]
    assert (failed.status, failed.http_status, failed.end_s) == ("error", 424, 1.5)
    assert failed.error == {"kind": "model", "message": "out of memory"}
    assert [(row.correct, row.output) for row in failed.rows] == [(False, None)] * 4
    assert samples[2].ok


def test_after_the_time_limit_nothing_is_sent() -> None:
    samples = loop(Scripted([0.4] * 6), seconds=1.0, warmup_requests=0, requests=6)

    assert [s.intended_s for s in samples] == [0.0, 0.4, 0.8]


def test_no_time_sends_nothing() -> None:
    assert loop(Scripted([]), seconds=0.0) == ()


def test_equal_seeds_send_equal_bytes() -> None:
    first, second, other = (Scripted([0.1] * 8) for _ in range(3))

    for client, seed in ((first, 7), (second, 7), (other, 8)):
        loop(client, seed=seed, requests=6)

    assert first.bodies == second.bodies
    assert first.bodies != other.bodies


def test_what_breaks_a_client_is_raised_not_recorded() -> None:
    client = Scripted([])

    def broken(body: bytes, passage: Passage) -> bytes:
        raise ZeroDivisionError("a bug")

    client.invoke = broken  # type: ignore[method-assign]  # the scripted failure of this test

    with pytest.raises(ZeroDivisionError):
        loop(client)


def test_two_clients_have_two_requests_under_way_and_share_the_schedule() -> None:
    most, lock, now, both = 0, threading.Lock(), [0], threading.Barrier(2)

    def script(number: int, body: bytes) -> Reply:
        nonlocal most
        with lock:
            now[0] += 1
            most = max(most, now[0])
        if number < 2:  # the first ones wait for each other
            both.wait(60)
        with lock:
            now[0] -= 1
        return right_answers(json.loads(body))

    document = benchmark_document(load={"mode": "closed", "concurrency": 2}, requests=9)
    with fake_endpoint(script) as server, HttpClient(server.url) as client:
        recording = measure(Benchmark.from_dict(document), client, run="r", endpoint=server.url)

    assert most == 2
    assert len(recording.measured) == 9
    assert len(server.connections) == 2
    starts = [s.intended_s for s in recording.samples]
    assert starts == sorted(starts) and starts[:2] == [0.0, 0.0]
    assert all(s.intended_s <= s.sent_s <= s.end_s for s in recording.samples)


def test_the_load_is_kept_up_until_the_last_measured_reply() -> None:
    document = benchmark_document(load={"mode": "closed", "concurrency": 2}, warmup_requests=0, requests=3)
    planned = Schedule(Benchmark.from_dict(document), Workload.load("four-tasks"))
    last = [planned.take(0.0) for _ in range(3)][-1]
    later, enough = itertools.count(1), threading.Event()

    def script(number: int, body: bytes) -> Reply:
        if last is not None and body == last.body:  # its answer waits for four more requests
            assert enough.wait(60)
        elif number > 2 and next(later) == 4:
            enough.set()
        return right_answers(json.loads(body))

    with fake_endpoint(script) as server, HttpClient(server.url) as client:
        recording = measure(Benchmark.from_dict(document), client, run="r", endpoint=server.url)

    phases = [s.phase for s in sorted(recording.samples, key=lambda s: s.index)]
    assert phases[:3] == ["measure"] * 3
    assert len(phases) >= 6 and set(phases[3:]) == {"drain"}
    assert recording.run.stopped == "planned"


def test_a_measurement_over_http_records_what_was_sent_and_when() -> None:
    heard = []
    benchmark = Benchmark.from_dict(benchmark_document())

    with fake_endpoint(lambda n, body: right_answers(json.loads(body))) as server, HttpClient(server.url) as client:
        recording = measure(
            benchmark, client, run="r", endpoint="tiny-t5", endpoint_config="c", gate_digest="d", time_limit=60,
            observe=lambda: "c", heard=heard.append,
        )  # fmt: skip

    run = recording.run
    assert (run.endpoint_config, run.observed_endpoint_config, run.time_limit_s) == ("c", "c", 60)
    assert run.workload_digest == Workload.load("four-tasks").digest
    assert heard == list(recording.samples)
    assert run.plan == benchmark.plan
    assert len(server.heard) == len(recording.samples) == 32


def test_run_names_sort_by_time_and_tell_the_gate() -> None:
    at = datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)

    assert run_name("1a2b3c4d5e6f", at) == "20261120T235959Z-1a2b3c4d"
    assert run_name(None, at) == "20261120T235959Z-adhoc"
