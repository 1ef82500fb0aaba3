"""The search for the highest rate that meets the targets: on scripted verdicts, and on a server with one worker."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.cli import main
from heavylift.commands import traffic
from heavylift.tune import probe
from heavylift.tune.capacity import Capacity, Step, find_capacity
from heavylift.tune.probe import Prober, probing
from tests.benchmark_documents import benchmark_document
from tests.conftest import ROOT
from tests.fake_endpoint import Reply, fake_endpoint, right_answers


class Server:
    """Passes up to a rate; each probe costs a second."""

    def __init__(self, capacity: float, *, seconds: float = 1000, flips: int = 0) -> None:
        self.capacity, self.left, self.asked, self.flips = capacity, seconds, list[float](), flips

    def probe(self, rate: float) -> Step:
        self.left -= 1
        self.asked.append(rate)
        verdict = "PASS" if rate <= self.capacity else "FAIL"
        if self.flips and rate > self.capacity:  # luck: passes once where it should not
            self.flips, verdict = self.flips - 1, "PASS"
        return Step(rate, f"{len(self.asked)}", verdict, rate, {"p50": 1.0, "p90": 1.0, "p99": 1.0}, (), 1.0)

    def search(self, start: float) -> Capacity:
        return find_capacity(self.probe, start=start, seconds_left=lambda: self.left, least_seconds=1)


@pytest.mark.parametrize("capacity", [0.05, 0.9, 1.0, 7.3, 512.0, 1500.0])
@pytest.mark.parametrize("start", [0.5, 4.0])
def test_the_search_ends_within_its_tolerance_below_the_capacity(capacity: float, start: float) -> None:
    server = Server(capacity)

    found = server.search(start)

    assert found.rate is not None and capacity / 1.1 <= found.rate <= capacity
    assert found.confirmed
    assert server.asked[-1] == found.rate, "the last thing tried is the answer, again"
    assert len(server.asked) < 25


def test_where_nothing_passes_there_is_no_capacity() -> None:
    found = Server(0.0).search(1.0)

    assert (found.rate, found.confirmed, found.ended) == (None, False, "no rate passed")


def test_where_everything_passes_the_search_says_that_it_knows_no_end() -> None:
    found = Server(1e9).search(1.0)

    assert found.rate is not None and found.rate > 1000 and found.ended == "the highest rate passed"


def test_a_lucky_rate_is_not_confirmed_and_a_lower_one_is_taken() -> None:
    server = Server(10.0, flips=1)

    found = server.search(12.0)

    assert found.rate is not None and found.rate <= 10 and found.confirmed


def test_the_time_ends_the_search_with_what_is_known() -> None:
    server = Server(100.0, seconds=4)

    found = server.search(1.0)

    assert (found.rate, found.confirmed, found.ended) == (8.0, False, "the time is used up")
    assert len(found.steps) == 4


def test_inconclusive_does_not_pass() -> None:
    def probe(rate: float) -> Step:
        return Step(rate, "x", "INCONCLUSIVE", rate, {"p50": 1.0, "p90": 1.0, "p99": 1.0}, (), 1.0)

    assert find_capacity(probe, start=1, seconds_left=lambda: 99, least_seconds=1).rate is None


def test_a_probe_has_as_many_requests_as_its_targets_need_and_lasts_long_enough() -> None:
    benchmark = Benchmark.from_dict(benchmark_document(slo=[{"metric": "e2e_latency", "percentile": 99, "max_ms": 9}]))

    slow, fast = probing(benchmark, 1.0, seed=8), probing(benchmark, 500.0, seed=8)

    assert slow.requests is not None and 473 <= slow.requests <= 700
    assert fast.requests == 5000
    assert slow.load.to_dict()["arrivals"] == "poisson" and (slow.seed, benchmark.seed) == (8, 7)


@pytest.mark.slow
def test_the_capacity_of_a_real_server_with_one_worker_lies_below_its_service_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "LEAST_SECONDS", 5.0)
    worker, rng = threading.Lock(), random.Random(1)

    def serve(number: int, request: bytes) -> Reply:
        with worker:  # a queue of one worker at 40 ms: it can answer 25 a second, and keeps its P90 up to less
            time.sleep(0.04 * (0.8 + 0.4 * rng.random()))
        return right_answers(json.loads(request))

    slo = [{"metric": "e2e_latency", "percentile": 90, "max_ms": 400}, {"metric": "error_rate", "max": 0.0}]
    benchmark = Benchmark.from_dict(benchmark_document(slo=slo, max_lag_ms=5000))
    deadline = time.monotonic() + 400

    with fake_endpoint(serve) as server, HttpClient(server.url) as client:

        def seconds_left() -> float:
            return deadline - time.monotonic()

        prober = Prober(benchmark, client, server.url, tmp_path / "capacity", seconds_left)
        # of 16, 32 and what lies between them: what is tried above 25 is far above it
        found = find_capacity(prober, start=16, seconds_left=prober.seconds_left, least_seconds=8, tolerance=0.5)

    assert found.rate is not None, found
    assert found.rate < 25, found
    assert all(step.verdict != "PASS" for step in found.steps if step.rate > 25)
    kept = sorted(path.parent.name for path in tmp_path.glob("capacity/*/samples.jsonl.gz"))
    assert len(kept) == len(found.steps)
    assert Recording.load(tmp_path / "capacity" / "01" / "samples.jsonl.gz").run.benchmark.load.to_dict()["rate"] == 16


def patient(benchmark_of: Callable[..., Any]) -> Callable[..., Any]:
    """The machine that runs the tests may be busy: half a second late is not too late here."""

    def lagging(*arguments: Any) -> Any:
        plan, benchmark = benchmark_of(*arguments)
        return plan, replace(benchmark, max_lag_ms=5000.0)

    return lagging


def test_void_runs_find_no_capacity_and_say_why() -> None:
    def probe(rate: float) -> Step:
        return Step(rate, "x", "VOID", rate, {"p50": 1.0, "p90": 1.0, "p99": 1.0}, ("the generator lagged",), 1.0)

    found = find_capacity(probe, start=1, seconds_left=lambda: 99, least_seconds=1)

    assert (found.rate, found.judged, found.ended) == (None, False, "every run was void: the generator lagged")


@pytest.mark.slow
def test_the_command_finds_the_capacity_of_a_url_and_draws_the_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "benchmark_of", patient(traffic.benchmark_of))
    monkeypatch.setattr(probe, "LEAST_SECONDS", 1.0)
    shutil.copytree(ROOT / "models", tmp_path / "models")
    for name in ("app.py", "cdk.json"):
        (tmp_path / name).touch()
    file = tmp_path / "models" / "tiny-t5.yaml"
    # the median: a busy machine makes latencies alike in clusters, and of a P90 too few of those may be left to judge
    file.write_text(file.read_text().replace("percentile: 90, max_ms: 2000", "percentile: 50, max_ms: 5000"))
    offered = [0.0]

    def at_rate(benchmark: Benchmark, *arguments: Any, **named: Any) -> Recording:
        offered.append(benchmark.load.to_dict()["rate"])
        return measure(benchmark, *arguments, **named)

    def serve(number: int, request: bytes) -> Reply:
        return right_answers(json.loads(request)) if offered[-1] <= 50 else Reply(503)

    monkeypatch.setattr(probe, "measure", at_rate)
    with fake_endpoint(serve) as server:
        search = ["bench", str(file), "--url", server.url, "--find-capacity", "--rate", "32", "--seconds", "600"]
        code = main([*search, "--into", str(tmp_path / "out"), "--json"])
        refused = main([*search, "--seconds", "3", "--rate", "1e9"])

    said = capsys.readouterr()
    document = json.loads(said.out.splitlines()[-1])
    assert (code, refused, document["format"]) == (0, 2, "heavylift.capacity/1")
    assert 50 / 1.1 <= document["rate"] <= 50 and document["confirmed"], document
    assert "--seconds is 3; it must be 30 to 86400" in said.err and "--rate is 1e+09" in said.err
    (folder,) = (tmp_path / "out").iterdir()
    assert json.loads((folder / "capacity.json").read_text()) == document
    assert "Latency against throughput" in (folder / "report.html").read_text(encoding="utf-8")
