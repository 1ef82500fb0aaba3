"""Exact binomial tails, and what they say of a percentile: how many requests a verdict needs, how sure a sample is.

Not an approximation: sums of the terms themselves, in logarithms. The rule that a percentile is certified by a binomial
tail is MLPerf's (https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc); the interval of a
percentile from ranks is in every text on order statistics.
"""

from __future__ import annotations

import math


def at_most(misses: int, requests: int, share: float) -> float:
    """P(X <= misses) for X of `requests` trials that miss with probability `share`."""
    if misses < 0:
        return 0.0
    if misses >= requests or share <= 0:
        return 1.0
    if share >= 1:
        return 0.0
    return min(1.0, math.fsum(_term(count, requests, share) for count in range(misses + 1)))


def at_least(misses: int, requests: int, share: float) -> float:
    """P(X >= misses), summed from its own side, so that a tiny tail keeps its digits."""
    if misses <= 0:
        return 1.0
    if misses > requests or share <= 0:
        return 0.0
    if share >= 1:
        return 1.0
    return min(1.0, math.fsum(_term(count, requests, share) for count in range(misses, requests + 1)))


def least_requests(share: float, misses: int, risk: float) -> int:
    """The fewest requests of which `misses` may miss and yet show, at this risk, that fewer than `share` do."""
    assert 0 < share < 1 and 0 < risk < 1
    high = misses + 1
    while at_most(misses, high, share) > risk:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at_most(misses, middle, share) <= risk else (middle, high)
    return high


def most_misses(requests: int, share: float, risk: float) -> int | None:
    """How many of `requests` may miss at most, to show at this risk that fewer than `share` do; None if none may."""
    allowed, tail = None, 0.0
    for misses in range(requests):
        tail += 0.0 if share in (0, 1) else _term(misses, requests, share)
        if share == 0 or tail > risk:
            break
        allowed = misses
    return allowed


def ranks(requests: int, percent: float, risk: float) -> tuple[int | None, int | None]:
    """The ranks (from 1) of the ordered sample between which the percentile lies, but for `risk` (half on each side);
    None on a side where so few requests have no bound: no distribution is assumed."""
    share, half = percent / 100, risk / 2
    low, tail = None, 0.0
    for count in range(requests):  # the percentile is below rank r when fewer than r values are below it
        tail += _term(count, requests, share)
        if tail > half:
            break
        low = count + 1
    high, tail = None, 0.0
    for count in range(requests, 0, -1):
        tail += _term(count, requests, share)
        if tail > half:
            break
        high = count
    return low, high


def _term(count: int, requests: int, share: float) -> float:
    return math.exp(
        math.lgamma(requests + 1)
        - math.lgamma(count + 1)
        - math.lgamma(requests - count + 1)
        + count * math.log(share)
        + (requests - count) * math.log1p(-share)
    )
