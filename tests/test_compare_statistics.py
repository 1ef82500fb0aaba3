"""The statistics of comparisons, against SciPy and against samples whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from heavylift.report import resample


def latencies(seed: int, count: int = 800, scale: float = 1.0) -> list[float]:
    return list(scale * np.random.default_rng(seed).lognormal(4.5, 0.4, count))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_numpys(share: float) -> None:
    values = np.sort(np.array([latencies(seed, 57) for seed in range(5)]))

    found = resample.quantiles(values, [share])

    np.testing.assert_allclose(found[0], np.quantile(values, share, axis=-1))


def test_a_quantile_is_infinite_where_its_rank_needs_a_failed_request() -> None:
    values = np.array([1.0, 2.0, 3.0, math.inf])

    assert resample.quantiles(values, [0.5, 2 / 3, 0.7, 1.0]).tolist() == [2.5, 3.0, math.inf, math.inf]


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_bootstrap_agrees_with_scipys_for_independent_values(share: float) -> None:
    values = latencies(3)
    rng = np.random.default_rng(1)

    drawn = np.sort(resample.resampled_quantiles([values], [share], rng, block=1)[0])

    def quantile(sample: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(np.quantile(sample, share, axis=axis))

    theirs = stats.bootstrap((values,), quantile, method="percentile", n_resamples=2000, batch=200, rng=2)
    low, high = np.quantile(drawn, [0.025, 0.975])
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert abs(low - theirs.confidence_interval.low) < 0.12 * width
    assert abs(high - theirs.confidence_interval.high) < 0.12 * width


def test_blocks_see_the_noise_that_independent_values_hide() -> None:
    rng = np.random.default_rng(5)
    bursts = np.repeat(rng.normal(100, 20, 40), 20)  # 20 requests in a row share their fate

    alone = resample.resampled_quantiles([list(bursts)], [0.5], np.random.default_rng(1), block=1)[0].std()
    blocks = resample.resampled_quantiles([list(bursts)], [0.5], np.random.default_rng(1))[0].std()

    assert blocks > 1.8 * alone


def test_several_runs_bring_the_noise_between_runs() -> None:
    runs = [list(np.random.default_rng(seed).normal(level, 1, 200)) for seed, level in enumerate((90, 100, 110))]

    pooled = resample.resampled_means([[value for run in runs for value in run]], np.random.default_rng(1)).std()
    apart = resample.resampled_means(runs, np.random.default_rng(1)).std()

    assert apart > 3 * pooled
    assert apart == pytest.approx(np.std([90, 100, 110]) / math.sqrt(3), rel=0.15)


@pytest.mark.parametrize("scale", [1.0, 1.1, 2.0])
def test_the_distance_is_kolmogorovs_and_smirnovs(scale: float) -> None:
    a, b = latencies(1, 300), [*latencies(2, 411, scale), math.inf]

    assert resample.ks_distance(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (5, 1), (3, 3), (12, 2), (2, 30), (0, 400)])
def test_the_sign_test_is_the_exact_binomial_one(lost: int, gained: int) -> None:
    theirs = 1.0 if lost == gained else stats.binomtest(lost, lost + gained).pvalue

    assert resample.sign_test(lost, gained) == pytest.approx(theirs)


@pytest.mark.parametrize(("bad", "total"), [(0, 50), (1, 50), (25, 50), (50, 50), (3, 1000)])
def test_the_interval_of_a_share_is_wilsons(bad: int, total: int) -> None:
    theirs = stats.binomtest(bad, total).proportion_ci(0.95, method="wilson")

    assert resample.wilson(bad, total, 0.05) == pytest.approx((theirs.low, theirs.high))


def test_newcombes_interval_is_that_of_his_paper() -> None:
    low, high = resample.share_difference((48, 80), (56, 70), 0.05)  # his first example, 56/70 - 48/80

    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_a_ratio_of_two_failures_says_nothing() -> None:
    assert resample.ratio_interval(np.full(100, math.inf), np.full(100, math.inf), 0.05) == (1.0, 1.0)
    assert resample.ratio_interval(np.full(100, math.inf), np.full(100, 2.0), 0.05) == (math.inf, math.inf)


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    truth, covered = 1.2, 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        a, b = latencies(2 * seed, 300), latencies(2 * seed + 1, 300, truth)
        draws = [resample.resampled_quantiles([side], [0.5], rng)[0] for side in (a, b)]
        low, high = resample.ratio_interval(draws[1], draws[0], 0.1)
        covered += low <= truth <= high

    assert stats.binomtest(covered, 120, 0.9).pvalue > 0.01
