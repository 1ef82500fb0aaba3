"""Intervals instead of numbers: 200 draws of an engine's coefficients, the same ones at every run.

Not the coefficients. The draws are stratified (Latin hypercube, McKay et al. 1979) from a fixed seed and Python's own
generator, so that no version of a library changes them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from heavylift.plan.performance.numbers import Numbers, Value

DRAWS, SEED = 200, 20261121
COLUMNS = 16
"""More than there are coefficients; the last two carry the error that the closed form leaves."""


@dataclass(frozen=True)
class Interval:
    """A tenth of the draws is below `p10`, half below `p50`, a tenth above `p90`."""

    p10: float
    p50: float
    p90: float

    @classmethod
    def of(cls, draws: Value) -> Interval:
        """Of an array of draws, or of one number; between two draws linearly, as numpy's percentile does."""
        ranked = np.sort(np.atleast_1d(np.asarray(draws, dtype=np.float64))).tolist()
        return cls(*(_level(ranked, share) for share in (0.1, 0.5, 0.9)))


def _level(ranked: list[float], share: float) -> float:
    place = share * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (place - low) * (ranked[high] - ranked[low])


@cache
def normals() -> Numbers:
    """(DRAWS, COLUMNS) standard normal numbers."""
    rng, law = random.Random(SEED), NormalDist()
    levels = [law.inv_cdf((place + 0.5) / DRAWS) for place in range(DRAWS)]
    columns = []
    for _ in range(COLUMNS):
        rng.shuffle(levels)
        columns.append(list(levels))
    return np.array(columns).T


def errors(residual: float, column: int) -> Numbers:
    """(DRAWS,) factors exp(residual · normal): what a measurement would be, over what the closed form says."""
    return np.asarray(np.exp(residual * normals()[:, column]), dtype=np.float64)
