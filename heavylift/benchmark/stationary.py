"""When a warm-up is over: three windows of requests that agree, and no slope through them.

Not a fixed number of requests. perf_analyzer asks that the slowest of three windows be within 10 % of the fastest
(https://github.com/triton-inference-server/perf_analyzer, docs/measurements_metrics.md); short windows differ by more
than that by chance, so here a difference also passes when it is within the noise of the windows themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

WINDOWS = 3
TOLERANCE = 1.10
NOISE = 2.5  # standard errors


@dataclass(frozen=True)
class Stationary:
    """Whether a load became steady, after how many requests, and why (not)."""

    reached: bool
    after_requests: int
    reason: str


def steady(values: Sequence[float], window: int) -> Stationary:
    """Judge the last three windows of `values` (latencies in ms, in order of sending)."""
    after = len(values)
    if after < WINDOWS * window:
        return Stationary(False, after, f"{after} requests are fewer than {WINDOWS} windows of {window}")
    last = values[after - WINDOWS * window :]
    windows = [last[start : start + window] for start in range(0, len(last), window)]
    means = [fmean(each) for each in windows]
    shown = ", ".join(f"{mean:.4g}" for mean in means)
    story = f"windows of {window} took {shown} ms on average"
    noise = NOISE * math.sqrt(2 * fmean(variance(each) for each in windows) / window)
    if max(means) > TOLERANCE * min(means) and max(means) - min(means) > noise:
        return Stationary(False, after, f"{story}: more than {TOLERANCE - 1:.0%} apart, and more than their noise")
    rise, error = _slope(last)
    drift = abs(rise) * (len(last) - 1)
    if abs(rise) > NOISE * error and drift > (TOLERANCE - 1) * fmean(last):
        return Stationary(False, after, f"{story}: they {'rise' if rise > 0 else 'fall'} by {drift:.4g} ms")
    return Stationary(True, after, story)


def _slope(values: Sequence[float]) -> tuple[float, float]:
    """The least-squares slope over the index, and its standard error."""
    count, centre, mean = len(values), (len(values) - 1) / 2, fmean(values)
    across = count * (count * count - 1) / 12
    slope = math.fsum((index - centre) * value for index, value in enumerate(values)) / across
    rest = math.fsum((value - mean - slope * (index - centre)) ** 2 for index, value in enumerate(values))
    return slope, math.sqrt(rest / (count - 2) / across)
