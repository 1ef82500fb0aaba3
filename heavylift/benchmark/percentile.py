"""Percentiles of raw samples, by linear interpolation between the two nearest ranks.

Never of other percentiles, and never an average of them. The rule is NumPy's default (`method="linear"`), type 7 of
Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

METHOD = "linear interpolation between closest ranks (Hyndman-Fan 7, NumPy's default)"


def percentile(values: Sequence[float], percent: float) -> float:
    """The `percent`-th percentile (0..100) of unsorted values, in their unit; infinite where the rank needs an
    infinite value. Asserts that there is a value."""
    assert values and 0 <= percent <= 100
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    low = math.floor(rank)
    part = rank - low
    if part == 0:
        return ordered[low]
    below, above = ordered[low], ordered[low + 1]
    return above if math.isinf(above) else below + (above - below) * part
