"""The times of an open load's sends, in seconds from its start, computed before the first is sent.

Not the sending (loop.py). A schedule is a function of the load and the seed; nothing moves it when a send is late.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from random import Random

from heavylift.benchmark.load import OpenLoad


def arrivals(load: OpenLoad, seed: int | str) -> Iterator[float]:
    """Endless, never decreasing. A trace that ends begins again one mean gap after its last time."""
    rng = Random(f"arrivals/{seed}")
    if load.arrivals == "trace":
        return _trace(load.times_s)
    if load.arrivals == "ramp":
        return _ramp(load.rate, load.to_rate, load.ramp_s, rng)
    return itertools.accumulate(_gaps(load, rng))


def before(load: OpenLoad, seed: int | str) -> Iterator[float]:
    """The warm-up's times: the same process at its first rate; a Poisson process at a trace's mean rate."""
    rng = Random(f"warmup/{seed}")
    if load.arrivals in ("trace", "ramp"):
        return itertools.accumulate(rng.expovariate(load.rate) for _ in itertools.count())
    return itertools.accumulate(_gaps(load, rng))


def _gaps(load: OpenLoad, rng: Random) -> Iterator[float]:
    while True:
        if load.arrivals == "constant":
            yield 1 / load.rate
        elif load.arrivals == "gamma":  # shape 1 / cv², so that standard deviation / mean is cv
            yield rng.gammavariate(load.cv**-2, load.cv**2 / load.rate)
        else:
            yield rng.expovariate(load.rate)


def _ramp(rate: float, to_rate: float, seconds: float, rng: Random) -> Iterator[float]:
    """A Poisson process whose rate goes linearly from `rate` to `to_rate`, and stays there: unit-rate arrivals put
    through the inverse of the expected count."""
    slope, due = (to_rate - rate) / seconds, (rate + to_rate) / 2 * seconds
    expected = 0.0
    while True:
        expected += rng.expovariate(1.0)
        if expected >= due:
            yield seconds + (expected - due) / to_rate
        else:
            yield 2 * expected / (rate + math.sqrt(rate * rate + 2 * slope * expected))


def _trace(times: tuple[float, ...]) -> Iterator[float]:
    period = times[-1] + times[-1] / max(1, len(times) - 1)
    for turn in itertools.count():
        yield from (turn * period + time for time in times)
