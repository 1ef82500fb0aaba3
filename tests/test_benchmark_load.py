"""Loads over real HTTP: open arrivals, stalls, lag, steadiness, budgets, probes; what they leave in the samples. Not
streams: test_benchmark_streamed.py.
"""

from __future__ import annotations

import itertools
import json
import statistics
import threading
from typing import Any

import pytest

from heavylift.benchmark.arrivals import arrivals
from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.load import OpenLoad, load_from
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from tests.benchmark_documents import benchmark_document
from tests.fake_endpoint import FakeEndpoint, Reply, fake_endpoint, right_answers

P90 = [{"metric": "e2e_latency", "percentile": 90, "max_ms": 60_000}]


def open_load(**changes: Any) -> dict[str, Any]:
    return {"mode": "open", "arrivals": "poisson", "rate": 200, "max_in_flight": 64} | changes


def first(count: int, **load: Any) -> list[float]:
    chosen = load_from({"mode": "open", **load})
    assert isinstance(chosen, OpenLoad)
    return list(itertools.islice(arrivals(chosen, 7), count))


def test_a_seed_decides_the_arrivals() -> None:
    assert first(50, arrivals="poisson", rate=2) == first(50, arrivals="poisson", rate=2)


@pytest.mark.parametrize(
    ("load", "cv"),
    [
        ({"arrivals": "poisson", "rate": 5}, 1.0),
        ({"arrivals": "constant", "rate": 5}, 0.0),
        ({"arrivals": "gamma", "rate": 5, "cv": 2.0}, 2.0),
        ({"arrivals": "gamma", "rate": 5, "cv": 0.5}, 0.5),
    ],
)
def test_arrivals_have_their_rate_and_their_spread(load: dict[str, Any], cv: float) -> None:
    times = first(20_000, **load)
    gaps = [after - before for before, after in itertools.pairwise([0.0, *times])]

    assert times == sorted(times)
    assert statistics.fmean(gaps) == pytest.approx(0.2, rel=0.06)
    assert statistics.stdev(gaps) / statistics.fmean(gaps) == pytest.approx(cv, rel=0.06, abs=1e-9)


def test_a_ramp_goes_from_one_rate_to_the_other_and_stays_there() -> None:
    times = first(30_000, arrivals="ramp", rate=10, to_rate=100, ramp_s=100)

    def count(start: float, end: float) -> int:
        return sum(start <= time < end for time in times)

    assert count(0, 10) == pytest.approx(145, rel=0.2)  # the mean rate there is 14.5
    assert count(45, 55) == pytest.approx(550, rel=0.1)
    assert count(150, 160) == pytest.approx(1000, rel=0.1)


def test_a_trace_is_replayed_and_begins_again() -> None:
    assert first(7, arrivals="trace", times_s=[0, 1, 1, 4]) == pytest.approx([0, 1, 1, 4, 16 / 3, 19 / 3, 19 / 3])


def run(server: FakeEndpoint, **changes: Any) -> Recording:
    benchmark = Benchmark.from_dict(benchmark_document(**changes))
    with HttpClient(server.url) as client:
        return measure(benchmark, client, run="r", endpoint=server.url)


def good(number: int, body: bytes) -> Reply:
    return right_answers(json.loads(body))


def test_an_open_load_sends_at_its_times_whatever_the_replies_do() -> None:
    with fake_endpoint(good) as server:
        recording = run(server, load=open_load(rate=100), requests=60, warmup_requests=5, slo=P90)

    intended = [sample.intended_s for sample in recording.measured]
    planned = first(60, arrivals="poisson", rate=100)
    assert [b - a for a, b in itertools.pairwise(intended)] == pytest.approx(
        [b - a for a, b in itertools.pairwise(planned)], abs=2e-6
    )
    assert all(sample.sent_s >= sample.intended_s for sample in recording.samples)
    assert len(recording.measured) == 60


@pytest.mark.slow
def test_a_stall_shows_in_the_tail_from_the_intended_send_not_in_the_service_time() -> None:
    def stalled(number: int, body: bytes) -> Reply:
        if number == 20:
            threading.Event().wait(5.0)  # much longer than a busy machine's own stalls
        return good(number, body)

    # One connection: what the server makes wait, waits in the client, as in a closed loop of one.
    load = open_load(arrivals="constant", rate=50, max_in_flight=1)
    with fake_endpoint(stalled) as server:
        patient = [{"metric": "e2e_latency", "percentile": 90, "max_ms": 60_000}]
        recording = run(server, load=load, requests=60, warmup_requests=0, slo=patient)

    e2e = sorted(sample.latency_ms for sample in recording.measured)
    service = sorted(sample.service_ms for sample in recording.measured)
    assert service[-2] < 4000 < service[-1], "one request was slow"
    assert sum(latency > 3000 for latency in e2e) > 20, "those behind it waited for it"
    assert judge(recording).verdict == "VOID"
    assert "the generator lagged" in judge(recording).void[0]


@pytest.mark.slow
def test_a_stall_of_the_server_alone_is_not_the_generators_lag() -> None:
    def stalled(number: int, body: bytes) -> Reply:
        if number == 10:
            threading.Event().wait(4.0)
        return good(number, body)

    with fake_endpoint(stalled) as server:
        recording = run(
            server,
            load=open_load(arrivals="constant", rate=60),
            requests=40,
            warmup_requests=0,
            slo=[{"metric": "error_rate", "max": 0.0}],
            max_lag_ms=3000,
        )

    assert judge(recording).verdict == "PASS"
    assert max(sample.latency_ms for sample in recording.measured) >= 4000


@pytest.mark.slow
def test_a_warm_up_goes_on_until_the_endpoint_is_steady_and_is_in_no_number() -> None:
    def warming(number: int, body: bytes) -> Reply:
        threading.Event().wait(max(0.0, 0.6 - 0.05 * number))  # far more than a busy machine's noise
        return good(number, body)

    warmup = {"until": "stationary", "window": 5, "max_requests": 200}
    with fake_endpoint(warming) as server:
        recording = run(server, warmup=warmup, warmup_requests=5, requests=30)

    warm = [sample for sample in recording.samples if sample.phase == "warmup"]
    assert recording.run.stationary is not None and recording.run.stationary.reached
    assert 15 < len(warm) < 200
    assert len(recording.measured) == 30
    assert statistics.median(s.latency_ms for s in recording.measured) < warm[0].latency_ms / 2


@pytest.mark.slow
def test_an_endpoint_that_never_becomes_steady_is_void_and_costs_no_more_than_its_warm_up() -> None:
    def slower_and_slower(number: int, body: bytes) -> Reply:
        threading.Event().wait(0.1 * number)
        return good(number, body)

    warmup = {"until": "stationary", "window": 3, "max_requests": 12}
    with fake_endpoint(slower_and_slower) as server:
        recording = run(server, warmup=warmup, warmup_requests=3, requests=30)

    verdict = judge(recording)
    assert verdict.verdict == "VOID"
    assert verdict.void[0].startswith("the endpoint never became steady in 12 requests: windows of 3 took")
    assert recording.run.stopped == "unsteady" and len(server.heard) == 12


def test_the_number_of_requests_is_planned_and_a_good_endpoint_gets_no_more() -> None:
    with fake_endpoint(good) as server:
        recording = run(server, requests="auto", slo=P90)

    assert recording.run.plan is not None and recording.run.plan.requests == 58
    assert len(recording.measured) == 58
    assert recording.run.stopped == "decided"
    assert judge(recording).verdict == "PASS"


def test_a_hopeless_endpoint_is_failed_early_and_that_is_no_void() -> None:
    with fake_endpoint(good) as server:
        recording = run(server, requests=1000, slo=[{"metric": "e2e_latency", "percentile": 90, "max_ms": 0.001}])

    assert (len(recording.measured), recording.run.stopped) == (10, "decided")
    assert judge(recording).verdict == "FAIL"
    assert judge(Recording.decode(recording.encode())).verdict == "FAIL"


def test_a_budget_in_dollars_ends_a_run_undecided() -> None:
    subject = benchmark_document()["subject"] | {"usd_per_hour": 36.0}  # a cent a second

    def slow(number: int, body: bytes) -> Reply:
        threading.Event().wait(0.05)
        return good(number, body)

    with fake_endpoint(slow) as server:
        recording = run(server, subject=subject, max_usd=0.01, requests="auto", slo=P90)

    report = build_report(recording, judge(recording), samples="x")
    assert recording.run.stopped == "budget"
    assert (report["verdict"], report["stopped"]) == ("INCONCLUSIVE", "budget")
    assert all(sample.intended_s < 1.0 for sample in recording.samples), "nothing is sent that cannot be paid"
    assert report["cost"]["run_usd"] == pytest.approx(0.01 * recording.samples[-1].end_s, rel=1e-3)
    assert report["cost"]["per_1k_good_requests_usd"] == pytest.approx(
        1000 * 0.01 / report["goodput"]["requests_per_second"], rel=1e-4
    )


def test_an_answer_that_depends_on_the_batch_or_on_the_load_is_found() -> None:
    def odd(number: int, body: bytes) -> Reply:
        reply = json.loads(right_answers(json.loads(body)).body)
        if len(reply["outputs"]) == 4 and number < 10:
            reply["outputs"][0] += "!"  # in an unloaded batch only
        return Reply(200, json.dumps(reply).encode())

    with fake_endpoint(odd) as server:
        recording = run(server, probes=2, warmup_requests=0, requests=30)

    report = build_report(recording, judge(recording), samples="x")
    assert report["requests"]["probes"] == 2 + 8
    assert report["quality"]["batch_invariance"] == {"compared": 8, "same": 6}
    assert report["quality"]["load_invariance"]["compared"] >= 8
    assert report["quality"]["load_invariance"]["same"] == report["quality"]["load_invariance"]["compared"] - 2
    assert report["quality"]["overall"] == 1.0, "the probes are in no other number"


def test_a_fast_wrong_answer_is_not_good() -> None:
    def wrong(number: int, body: bytes) -> Reply:
        reply = json.loads(right_answers(json.loads(body)).body)
        reply["outputs"][-1] = "la " * 40 if number % 2 else reply["outputs"][-1]
        return Reply(200, json.dumps(reply).encode())

    with fake_endpoint(wrong) as server:
        recording = run(server, warmup_requests=0, requests=40, slo=[*P90, {"metric": "attainment", "min": 0.9}])

    report = build_report(recording, judge(recording), samples="x")
    assert report["verdict"] == "FAIL"
    assert [each["outcome"] for each in report["judgements"]][1] == "fail"
    assert report["quality"]["degenerate"]["loop"] > 0
    assert report["goodput"]["attainment"] == 0.5


@pytest.mark.parametrize("api", ["openai-chat", "openai-completions", "tgi"])
def test_other_apis_are_asked_in_their_own_form(api: str) -> None:
    def script(number: int, body: bytes) -> Reply:
        asked = json.loads(body)
        text = asked.get("inputs") or asked.get("prompt") or asked["messages"][0]["content"]
        answer = json.loads(right_answers({"inputs": [text]}).body)["outputs"][0]
        if api == "tgi":
            said: Any = [{"generated_text": answer, "details": {"generated_tokens": 3, "finish_reason": "eos_token"}}]
        else:
            choice = {"message": {"content": answer}} if api == "openai-chat" else {"text": answer}
            usage = {"prompt_tokens": 2, "completion_tokens": 3}
            said = {"choices": [{**choice, "finish_reason": "stop"}], "usage": usage}
        return Reply(200, json.dumps(said).encode())

    with fake_endpoint(script) as server:
        recording = run(server, api=api, requests=30, warmup_requests=0, slo=P90)

    assert judge(recording).verdict == "PASS"
    assert all(sample.rows[0].correct and sample.rows[0].generated_tokens == 3 for sample in recording.measured)
