"""Rates and costs against their limits: the interval beside scipy's, and how often a server at its limit passes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy
import pytest
from scipy import stats

from heavylift.benchmark.beta import incomplete_beta, share_interval, student_quantile, student_tail
from heavylift.benchmark.binomial import at_most
from heavylift.benchmark.looks import needed_for
from heavylift.benchmark.rates import Batches, least_answers
from heavylift.benchmark.report import build_report
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.slo import Slo
from heavylift.benchmark.verdict import judge
from tests.benchmark_documents import benchmark_document, recorded

DRAWS = 1000
MOST = 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)  # what chance makes of 5 % in so many draws


@pytest.mark.parametrize("a", [0.5, 1, 3, 40, 4000])
@pytest.mark.parametrize("b", [0.5, 2, 30, 90_000])
def test_the_incomplete_beta_function_is_scipy_s(a: float, b: float) -> None:
    for x in (0.0, 1e-6, 0.01, 0.3, a / (a + b), 0.77, 0.999, 1.0):
        assert incomplete_beta(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("freedom", [1, 4, 19, 300])
def test_student_s_tail_and_quantile_are_scipy_s(freedom: int) -> None:
    for t in (-3.0, 0.0, 0.4, 2.1, 12.0):
        assert student_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-8)
    for tail in (0.4, 0.05, 0.025, 1e-4):
        assert student_quantile(tail, freedom) == pytest.approx(stats.t.isf(tail, freedom), rel=1e-8)


@pytest.mark.parametrize(("count", "trials"), [(0, 30), (1, 30), (30, 30), (7, 200), (150_000, 1_000_000)])
def test_the_interval_of_a_share_is_clopper_s_and_pearson_s(count: int, trials: int) -> None:
    theirs = stats.binomtest(count, trials).proportion_ci(0.95, method="exact")

    assert share_interval(count, trials, 0.05) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-12)


def closed(random: numpy.random.Generator) -> list[tuple[float, float]]:
    """One client, skewed service times of mean 1."""
    return [(end, 1.0) for end in numpy.cumsum(random.lognormal(-0.125, 0.5, 200))]


def correlated(random: numpy.random.Generator) -> list[tuple[float, float]]:
    """Service times that follow each other: a slow one is followed by slow ones. Their mean is 1."""
    noise, last, times = random.normal(0, 1, 400), 0.0, []
    for each in noise:
        last = 0.5 * last + each
        times.append(max(0.01, 1 + 0.2 * last))
    return [(end, 1.0) for end in numpy.cumsum(times)]


def poisson(random: numpy.random.Generator) -> list[tuple[float, float]]:
    """Arrivals at a rate of 1, all answered."""
    return [(end, 1.0) for end in numpy.cumsum(random.exponential(1, 300))]


def tokens(random: numpy.random.Generator) -> list[tuple[float, float]]:
    """Replies of 1 to 9 tokens, 5 on average, each token taking a fifth of a second, roughly."""
    counts = random.integers(1, 10, 200)
    return list(zip(numpy.cumsum(counts / 5 * random.lognormal(-0.02, 0.2, 200)), map(float, counts), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("server", "rate"), [(closed, 1.0), (correlated, 1.0), (poisson, 1.0), (tokens, 5.0)])
def test_a_server_whose_rate_is_exactly_the_limit_passes_and_fails_in_one_run_of_twenty(
    server: Callable[[numpy.random.Generator], list[tuple[float, float]]], rate: float
) -> None:
    random = numpy.random.default_rng(7)
    found = [Batches.of(server(random), 0.0, 1) for _ in range(DRAWS)]

    passed = sum(each is not None and each.reaches(rate) <= 0.05 for each in found) / DRAWS
    failed = sum(each is not None and each.falls_short(rate) <= 0.05 for each in found) / DRAWS
    intervals = [each.interval(0.05) for each in found[:200] if each is not None]
    covered = sum(low <= rate <= high for low, high in intervals) / 200

    assert passed <= MOST + 0.015, "the requests' own skew moves Student's t by a percent"
    assert failed <= MOST + 0.015
    assert covered >= 0.9


def test_a_server_that_is_a_fifth_faster_than_its_limit_passes_nearly_always() -> None:
    random = numpy.random.default_rng(7)
    found = [Batches.of(closed(random), 0.0, 1) for _ in range(300)]

    assert sum(each is not None and each.reaches(1 / 1.2) <= 0.05 for each in found) >= 285


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slo", "rows"), [(Slo("quality", 0.95), 4), (Slo("error_rate", 0.01), 1), (Slo("attainment", 0.9), 1)]
)
def test_a_share_exactly_at_its_limit_passes_in_one_run_of_twenty_at_most(slo: Slo, rows: int) -> None:
    share = slo.bad_share
    assert share is not None

    for trials in (59, 200, 600, 2000):
        passing = [count for count in range(trials + 1) if at_most(count, trials, share) <= slo.risk]
        assert stats.binom.cdf(max(passing, default=-1), trials, share) <= 0.05


@pytest.mark.parametrize("metric", ["error_rate", "quality", "attainment"])
def test_a_limit_that_lets_nothing_be_bad_passes_where_the_tolerance_is_ruled_out(metric: str) -> None:
    slo = Slo(metric, 0.0 if metric == "error_rate" else 1.0, tolerance=0.02)
    needed = needed_for(slo, rows=1)

    assert slo.strict and needed == 149  # the least n with 0.98 ** n <= 0.05
    assert judge(recorded([10.0] * 149), [slo]).verdict == "PASS"
    few = judge(recorded([10.0] * 148), [slo])
    assert few.verdict == "INCONCLUSIVE"
    requests = 38 if metric == "quality" else 149  # of four rows each
    assert f"{requests} requests show at 95 % confidence that under 2 % do" in few.sentences[0]
    assert judge(recorded([10.0] * 148 + [None]), [slo]).verdict == "FAIL"


@pytest.mark.slow
def test_an_endpoint_whose_errors_are_exactly_what_is_tolerated_passes_in_one_run_of_twenty_at_most() -> None:
    random = numpy.random.default_rng(7)
    slo = Slo("error_rate", 0.0, tolerance=0.05)
    draws = 400

    passed = sum(
        judge(recorded([None if bad else 10.0 for bad in random.random(59) < 0.05]), [slo]).verdict == "PASS"
        for _ in range(draws)
    )

    assert passed / draws <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


@pytest.mark.parametrize("slo", [Slo("tokens_per_second", 49.5), Slo("requests_per_second", 9.9), Slo("goodput", 9.9)])
def test_a_steady_rate_beside_its_limit_passes_and_one_that_wavers_is_undecided(slo: Slo) -> None:
    waves: list[float | None] = [*[20.0] * 60, *[220.0] * 40]
    steady, wavering = recorded([100.0, 100.1] * 50), recorded(waves)

    assert judge(steady, [slo]).verdict == "PASS"
    undecided = judge(wavering, [slo])
    assert undecided.verdict == "INCONCLUSIVE"
    assert "by 20 batches it lies between" in undecided.sentences[0]


def priced(recording: Recording) -> Recording:
    document = benchmark_document(requests=100)
    document["subject"] |= {"usd_per_hour": 3600.0}  # a dollar a second
    benchmark = type(recording.run.benchmark).from_dict(document)
    return Recording(type(recording.run)(**{**vars(recording.run), "benchmark": benchmark}), recording.samples)


def test_a_cost_is_the_rate_that_it_buys_and_its_interval_is_of_dollars() -> None:
    steady = priced(recorded([100.0, 100.1] * 50))

    cheap, dear = (judge(steady, [Slo("cost_per_1k_good_requests_usd", limit)]) for limit in (101.0, 99.0))

    assert (cheap.verdict, dear.verdict) == ("PASS", "FAIL")
    evidence = cheap.judgements[0].evidence
    assert evidence is not None and evidence.interval is not None and evidence.interval[0] is not None
    assert evidence.interval[0] < 100.05 < (evidence.interval[1] or 0)
    assert build_report(steady, cheap, samples="x")["judgements"][0]["batches"] == 20


def test_too_few_answers_for_batches_are_undecided_and_say_how_many_are_not() -> None:
    verdict = judge(recorded([100.0] * 19), [Slo("requests_per_second", 1.0)])

    assert verdict.verdict == "INCONCLUSIVE"
    assert "19 requests are too few for an interval, 20 are not" in verdict.sentences[0]
    assert least_answers(8) == 80, "eight clients' answers may come together"
