"""How much less a sample says because its bad requests come together: the design effect, by batch means.

Not a model of the queue. Requests of one busy period share their fate, and n of them weigh less than n independent ones
(A. M. Law, "Simulation Modeling and Analysis", on batch means; L. Kish, "Survey Sampling", on the design effect).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

FEWEST_BATCHES = 8
CHANCE = 0.1  # how often independent requests may look clustered


def design_effect(marks: Sequence[bool]) -> float:
    """The variance of the share of true marks over what independent marks would give; at least 1.

    Batches of several sizes are tried, and the largest effect counts that chance does not explain (a chi-squared
    quantile by Wilson and Hilferty): a correction that is noise would cost requests and prove nothing.
    """
    largest, size = 1.0, 4
    while len(marks) // size >= FEWEST_BATCHES:
        largest = max(largest, _effect(marks, size))
        size *= 2
    return largest


def _effect(marks: Sequence[bool], size: int) -> float:
    count = len(marks) // size
    used = marks[len(marks) - count * size :]
    share = sum(used) / len(used)
    if share in (0, 1):
        return 1.0
    means = [sum(used[start : start + size]) / size for start in range(0, len(used), size)]
    spread = math.fsum((mean - share) ** 2 for mean in means) / (count - 1)
    effect = spread * size / (share * (1 - share))
    return effect if effect > _chance(count - 1) else 1.0


def _chance(freedom: int) -> float:
    """The quantile of chi-squared over its degrees of freedom that independent marks pass with CHANCE."""
    part = 2 / (9 * freedom)
    return (1 - part + NormalDist().inv_cdf(1 - CHANCE) * math.sqrt(part)) ** 3
