"""What a server adds to the latency of its engine, and how sure that is. Not the measurement: server_overhead.py.

A percentile's difference says nothing without its interval: the 99th percentile of forty answers is the slowest one,
whatever disturbed it. What disturbs a machine lasts, so whole turns are drawn again, the same ones of both sides, which
took them one after the other (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, on blocks and pairs).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

DRAWS, SEED = 1000, 7


@dataclass(frozen=True)
class Added:
    """Milliseconds: of all turns, and where the middle 95 % of the draws lie."""

    found: float
    low: float
    high: float


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank; seconds in, milliseconds out."""
    return sorted(values)[max(0, -(-round(share * 1000) * len(values) // 1000) - 1)] * 1000


def added(bare: Sequence[Sequence[float]], side: Sequence[Sequence[float]], share: float) -> Added:
    """The difference of a percentile, `share` of 1; the seconds of each turn's answers."""
    assert len(bare) == len(side), "the sides take turns"
    draw, turns = random.Random(SEED), range(len(bare))
    found = sorted(_between(bare, side, draw.choices(turns, k=len(bare)), share) for _ in range(DRAWS))
    low, high = found[DRAWS // 40], found[-1 - DRAWS // 40]
    return Added(*(round(each, 2) for each in (_between(bare, side, turns, share), low, high)))


def _between(
    bare: Sequence[Sequence[float]], side: Sequence[Sequence[float]], turns: Sequence[int], share: float
) -> float:
    mine, theirs = ([each for turn in turns for each in of[turn]] for of in (side, bare))
    return percentile(mine, share) - percentile(theirs, share)
