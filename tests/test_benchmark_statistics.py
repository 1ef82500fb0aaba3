"""The arithmetic behind a verdict, against scipy and by simulation: tails, looks, clusters, steadiness."""

from __future__ import annotations

import itertools
from random import Random

import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.benchmark import looks
from heavylift.benchmark.binomial import at_least, at_most, least_requests, most_misses, ranks
from heavylift.benchmark.clusters import design_effect
from heavylift.benchmark.slo import Slo
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stationary import steady
from heavylift.benchmark.verdict import judge, settled
from tests.benchmark_documents import benchmark_document, recorded

P99 = Slo("e2e_latency", 1000.0, 99.0)
P90 = Slo("e2e_latency", 1000.0, 90.0)


@settings(max_examples=60)
@given(st.integers(1, 3000), st.floats(0, 1.2), st.floats(0.0005, 0.9995))
def test_tails_are_scipys(requests: int, part: float, share: float) -> None:
    misses = round(part * requests)

    assert at_most(misses, requests, share) == pytest.approx(
        scipy.stats.binom.cdf(misses, requests, share), rel=1e-8, abs=1e-250
    )
    assert at_least(misses, requests, share) == pytest.approx(
        scipy.stats.binom.sf(misses - 1, requests, share), rel=1e-8, abs=1e-250
    )


@pytest.mark.parametrize(
    ("percent", "confidence", "needed"),
    [
        (90, 0.95, (29, 46, 61)),
        (95, 0.95, (59, 93, 124)),
        (99, 0.90, (230, 388, 531)),
        (99, 0.95, (299, 473, 628)),
        (99, 0.99, (459, 662, 838)),
    ],
)
def test_the_requests_that_certify_a_percentile(percent: int, confidence: float, needed: tuple[int, ...]) -> None:
    for misses, requests in enumerate(needed):
        share, risk = 1 - percent / 100, 1 - confidence

        assert least_requests(share, misses, risk) == requests
        assert most_misses(requests, share, risk) == misses
        assert most_misses(requests - 1, share, risk) == (misses - 1 if misses else None)


def test_the_ranks_around_a_p99() -> None:
    assert ranks(1000, 99, 0.05) == (983, 997)
    assert ranks(400, 99, 0.05) == (392, 400)
    assert ranks(200, 99, 0.05)[1] is None, "200 requests bound no p99 from above"


@settings(max_examples=25)
@given(st.integers(5, 400), st.sampled_from([50.0, 90.0, 95.0, 99.0]))
def test_the_interval_of_ranks_covers_the_percentile_as_often_as_it_says(requests: int, percent: float) -> None:
    low, high = ranks(requests, percent, 0.05)
    below = scipy.stats.binom(requests, percent / 100)  # how many values lie below the true percentile

    missed = (0.0 if low is None else below.cdf(low - 1)) + (0.0 if high is None else below.sf(high - 1))

    assert missed <= 0.05 + 1e-9


def test_looks_spend_no_more_than_the_error() -> None:
    for plan in (looks.fixed(7), looks.fixed(1000), looks.auto([P99]), looks.auto([P90]), looks.auto([])):
        for each in (plan.pass_looks, plan.fail_looks):
            assert sum(share for _, share in each) == pytest.approx(1.0)
            assert [count for count, _ in each] == sorted({count for count, _ in each})
            assert each[-1][0] == plan.most_requests


def outcome(slow: float, slo: Slo, rng: Random, requests: int | str = "auto") -> str:
    """PASS, FAIL or INCONCLUSIVE of one run of independent requests, a share `slow` of which is over the limit."""
    document = benchmark_document(requests=requests, slo=[slo.to_dict()])
    benchmark = Benchmark.from_dict(document)
    plan = benchmark.plan
    latencies: list[float | None] = [1500.0 if rng.random() < slow else 800.0 for _ in range(plan.most_requests)]
    everything = recorded(latencies, slo=document["slo"], plan=plan, stopped="decided")
    for count in plan.counts:
        first = everything.samples[:count]
        if settled(benchmark, plan, first) or count == plan.most_requests:
            return judge(type(everything)(everything.run, first)).verdict
    raise AssertionError("the last look ends the run")


@pytest.mark.slow
@pytest.mark.parametrize(("slo", "at_limit"), [(P90, 0.10), (P99, 0.01)])
def test_an_endpoint_exactly_at_the_limit_rarely_passes_and_rarely_fails(slo: Slo, at_limit: float) -> None:
    rng = Random(3)
    draws = 400 if slo is P90 else 120

    found = [outcome(at_limit, slo, rng) for _ in range(draws)]

    # 5 % and what chance adds to it in so many draws
    allowed = scipy.stats.binom.isf(0.001, draws, 0.05)
    assert found.count("PASS") <= allowed
    assert found.count("FAIL") <= allowed


@pytest.mark.slow
def test_good_endpoints_pass_and_bad_ones_fail() -> None:
    rng = Random(4)

    assert [outcome(0.01, P90, rng) for _ in range(60)].count("PASS") >= 57
    assert [outcome(0.30, P90, rng) for _ in range(60)].count("FAIL") >= 57


def test_a_hopeless_endpoint_is_failed_within_tens_of_requests() -> None:
    benchmark = Benchmark.from_dict(benchmark_document(requests=1049, slo=[P99.to_dict()]))
    samples = recorded([5000.0] * 10).samples

    assert settled(benchmark, benchmark.plan, samples)


def test_independent_marks_seldom_look_clustered_and_clustered_ones_do() -> None:
    rng = Random(5)
    independent = [design_effect([rng.random() < 0.1 for _ in range(500)]) for _ in range(200)]
    runs = [[rng.random() < 0.1] * 20 for _ in range(25)]
    clustered = design_effect(list(itertools.chain.from_iterable(runs)))

    assert sorted(independent)[100] == 1.0
    assert max(independent) < 4
    assert clustered > 8


@pytest.mark.slow
def test_violations_in_clusters_do_not_certify_more_than_they_should() -> None:
    rng = Random(6)

    def busy_periods() -> list[float | None]:
        """480 requests in busy periods of 8; a period is slow with the limit's own probability."""
        return [latency for _ in range(60) for latency in [1500.0 if rng.random() < 0.1 else 800.0] * 8]

    passes = [judge(recorded(busy_periods(), slo=[P90.to_dict()])).verdict for _ in range(300)].count("PASS")

    # The binomial tail alone passes a quarter of them, as if they were independent.
    assert passes / 300 <= 0.1


@pytest.mark.parametrize("shape", ["flat", "noise", "falling", "step"])
def test_a_warm_up_ends_when_the_latency_neither_drifts_nor_jumps(shape: str) -> None:
    rng = Random(7)
    values = {
        "flat": [100.0 + 0.1 * (index % 3) for index in range(24)],
        "noise": [rng.lognormvariate(4.6, 0.4) for _ in range(24)],
        "falling": [400 * 0.93**index + rng.random() for index in range(24)],
        "step": [300.0 + rng.random()] * 8 + [100.0 + rng.random() for _ in range(16)],
    }[shape]

    found = steady(values, 8)

    assert found.reached is (shape in ("flat", "noise"))
    assert found.after_requests == 24
    assert "windows of 8 took" in found.reason


def test_three_windows_are_needed() -> None:
    assert steady([1.0] * 23, 8).reason == "23 requests are fewer than 3 windows of 8"
