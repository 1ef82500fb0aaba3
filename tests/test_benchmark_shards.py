"""One load by several generators: their parts add up to the run that one would have made, exactly."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from scipy import stats

from heavylift.benchmark.arrivals import arrivals
from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.load import OpenLoad
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording, Sample
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.shards import Window, part_of, whole_of
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.benchmark.workload import Workload
from tests.benchmark_documents import SLO, benchmark_document, recorded, sample
from tests.fake_endpoint import Reply, fake_endpoint, right_answers


def shared(generators: int = 8, **changes: Any) -> Benchmark:
    load = {"mode": "open", "arrivals": "poisson", "rate": 40.0, "generators": generators}
    document = benchmark_document(load=load, requests=200, warmup_requests=20, max_seconds=60)
    return Benchmark.from_dict(document | changes)


def parts_of(asked: Benchmark, latency_ms: float = 20.0) -> list[Recording]:
    """What the generators of `asked` record of an endpoint that always takes as long."""
    found = []
    for index in range(shares(asked)):
        part = part_of(asked, index)
        samples: list[Sample] = []
        assert isinstance(part.load, OpenLoad)
        for at in arrivals(part.load, part.deal):
            if at >= part.max_seconds:
                break
            due = round(at, 6)
            samples.append(sample(len(samples), due, round(due + latency_ms / 1000, 6)))
        run = replace(recorded([1.0]).run, benchmark=part, time_limit_s=part.max_seconds, stopped="time")
        found.append(Recording(run, tuple(samples)))
    return found


def first_due(asked: Benchmark, index: int) -> float:
    part = part_of(asked, index)
    assert isinstance(part.load, OpenLoad)
    return next(arrivals(part.load, part.deal))


def shares(asked: Benchmark) -> int:
    assert isinstance(asked.load, OpenLoad)
    return asked.load.generators


def test_the_parts_are_the_whole_sample_for_sample() -> None:
    asked = shared()
    parts = parts_of(asked)

    whole = whole_of(parts, asked)

    every = sorted((each for part in parts for each in part.samples), key=lambda each: each.intended_s)
    assert [(each.intended_s, each.end_s) for each in whole.samples] == [(e.intended_s, e.end_s) for e in every]
    assert [each.index for each in whole.samples] == list(range(len(every)))
    assert len(whole.measured) == 200 and whole.run.stopped == "planned"
    assert [each.phase for each in whole.samples] == sorted(
        (each.phase for each in whole.samples), key=["warmup", "measure", "drain"].index
    )
    assert judge(whole).verdict == "PASS"


def test_eight_shards_give_the_report_of_one_run() -> None:
    """The same samples, dealt to eight recordings and merged: every number of the report is the same."""
    asked = shared()
    whole = whole_of(parts_of(asked), asked)
    window = Window.of(asked)
    dealt = [
        replace(
            whole,
            run=replace(whole.run, benchmark=part_of(asked, shard)),
            samples=tuple(replace(each, phase="measure") for each in whole.samples[shard::8]),
        )
        for shard in range(8)
    ]

    merged = whole_of(dealt, asked)

    unlike = {"generator"}
    one, eight = (build_report(each, judge(each), samples="s3://b/k") for each in (whole, merged))
    assert {key: value for key, value in eight.items() if key not in unlike} == {
        key: value for key, value in one.items() if key not in unlike
    }
    assert window.measure_s < merged.measured[0].intended_s


def test_independent_parts_add_up_to_poisson_arrivals_of_the_whole_rate() -> None:
    asked = shared(requests=4000, max_seconds=600)

    times = [each.intended_s for each in whole_of(parts_of(asked), asked).samples]

    gaps = [after - before for before, after in pairwise(times)]
    assert stats.kstest(gaps, "expon", args=(0, 1 / 40)).pvalue > 0.01
    counts = [sum(second <= at < second + 1 for at in times) for second in range(int(times[-1]))]
    assert 0.7 < stats.tvar(counts) / (sum(counts) / len(counts)) < 1.3, "as many as scattered: dispersion is 1"


def test_no_two_parts_send_at_the_same_times_or_in_the_same_order() -> None:
    asked = shared(generators=4)
    workload = Workload.load(asked.workload, asked.seed)

    parts = [part_of(asked, index) for index in range(4)]
    firsts = [next(arrivals(part.load, part.deal)) for part in parts if isinstance(part.load, OpenLoad)]
    prompts = [next(workload.batches(part.batch, seed=part.deal)) for part in parts]

    assert len(set(firsts)) == len(set(prompts)) == 4
    assert {part.load.to_dict()["rate"] for part in parts} == {10.0}
    assert all(Benchmark.from_json(part.to_json()) == part for part in parts)


def test_an_endpoint_that_slows_down_is_as_unsteady_for_many_generators_as_for_one() -> None:
    asked = shared(warmup={"until": "stationary", "window": 8, "max_requests": 240})
    parts = [
        replace(
            part,
            samples=tuple(
                replace(each, end_s=round(each.end_s + (0.5 if each.intended_s < 0.4 else 0.0), 6))
                for each in part.samples
            ),
        )
        for part in parts_of(asked)
    ]
    falling = [
        replace(part, samples=tuple(replace(e, end_s=e.intended_s + 3 / (1 + e.intended_s)) for e in part.samples))
        for part in parts
    ]

    steady, unsteady = whole_of(parts, asked), whole_of(falling, asked)

    assert steady.run.stationary is not None and steady.run.stationary.reached
    assert judge(steady).verdict == "PASS"
    assert judge(unsteady).verdict == "VOID"
    assert "never became steady" in judge(unsteady).void[0]


def test_a_generator_that_began_late_lagged_and_the_run_is_void() -> None:
    asked = shared()
    parts = parts_of(asked)
    late = tuple(
        replace(each, sent_s=max(each.sent_s, 3.0), end_s=max(each.sent_s, 3.0) + 0.02) for each in parts[0].samples
    )
    parts[0] = replace(parts[0], samples=late)
    soon = replace(asked, warmup_requests=0)

    verdict = judge(whole_of(parts, soon))

    assert verdict.verdict == "VOID"
    assert "the generator lagged" in verdict.void[0]


def test_a_real_generator_that_begins_after_the_moment_is_late_with_what_was_due() -> None:
    asked = shared(generators=2, requests=60, warmup_requests=0)

    with fake_endpoint(lambda n, body: right_answers(json.loads(body))) as endpoint, HttpClient(endpoint.url) as client:
        part = replace(part_of(asked, 1), max_seconds=2.0)
        late = measure(part, client, run="r", endpoint="e", begin=time.time() - 1.5)

    assert late.samples[0].intended_s == first_due(asked, 1)
    assert late.samples[0].lag_ms > 1000
    assert any("the generator lagged" in reason for reason in judge(late).void)


def test_a_generator_that_saw_another_config_makes_the_whole_void() -> None:
    asked = shared(generators=2)
    parts = parts_of(asked)
    parts[1] = replace(parts[1], run=replace(parts[1].run, observed_endpoint_config="config-2"))

    assert judge(whole_of(parts, asked)).verdict == "VOID"


def test_a_lost_part_is_void_not_a_lighter_load() -> None:
    asked = shared(generators=2)

    verdict = judge(whole_of(parts_of(asked)[:1], asked))

    assert verdict.verdict == "VOID"
    assert "of 200 measured requests were sent" in verdict.void[0]


def test_a_hopeless_endpoint_is_judged_at_the_look_that_one_generator_would_have_taken() -> None:
    asked = shared(slo=[{"metric": "e2e_latency", "percentile": 90, "max_ms": 0.001}])

    whole = whole_of(parts_of(asked), asked)

    assert (len(whole.measured), whole.run.stopped, judge(whole).verdict) == (10, "decided", "FAIL")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"load": {"mode": "open", "arrivals": "constant", "rate": 5.0, "generators": 2}}, "unknown key 'generators'"),
        ({"max_seconds": 1000}, "max_seconds is 1000; with several generators, each one Lambda, at most 780"),
        ({"slo": [*SLO, {"metric": "load_invariance", "min": 1.0}]}, "load_invariance needs probes"),
        ({"load": {"mode": "open", "arrivals": "poisson", "rate": 5.0, "generators": 101}}, "at most 100"),
    ],
)
def test_what_cannot_be_shared_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        shared(**changes)


@pytest.mark.slow
def test_two_real_generators_that_agreed_on_a_moment_are_one_run() -> None:
    """However busy the machine is: what was due does not depend on it, and a generator may lag here."""
    slo = [{"metric": "e2e_latency", "percentile": 90, "max_ms": 60_000}, {"metric": "error_rate", "max": 0.0}]
    asked = shared(generators=2, requests=60, warmup_requests=4, max_lag_ms=60_000, slo=slo)
    heard: list[float] = []

    def answer(number: int, body: bytes) -> Reply:
        heard.append(time.time())
        return right_answers(json.loads(body))

    with fake_endpoint(answer) as endpoint:
        begins = [time.time() + 0.3 + 3 * index for index in range(2)]  # in turn: each only needs the clock
        parts = []
        for index, begin in enumerate(begins):
            part = replace(part_of(asked, index), max_seconds=2.5)
            first = len(heard)
            with HttpClient(endpoint.url) as client:
                parts.append(measure(part, client, run="r", endpoint="e", begin=begin))
            assert heard[first] >= begin + parts[index].samples[0].intended_s - 0.001
    whole = whole_of(parts, asked)

    assert [part.samples[0].intended_s for part in parts] == [first_due(asked, index) for index in range(2)]
    assert len(whole.measured) == 60
    assert judge(whole).verdict == "PASS"


def test_a_run_in_legs_of_made_up_prompts_is_one_run() -> None:
    """Each leg asks the same prompts, in another order: they are of one workload."""
    asked = Benchmark.from_dict(
        benchmark_document(workload={"synthetic": {"prompt_words": [3, 5], "new_tokens": [1, 2], "prompts": 4}})
    )

    digests = {Workload.load(each.workload, each.seed).digest for each in (asked, replace(asked, part=1))}

    assert len(digests) == 1
