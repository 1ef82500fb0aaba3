"""The cheapest fleet for a problem, with what each type serves and what each would cost alone.

Not the program that finds the counts: search.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from heavylift.errors import InputError
from heavylift.plan.fleet.answer import Alone, Fleet, Served, Share
from heavylift.plan.fleet.assign import Shares, assign
from heavylift.plan.fleet.problem import Offer, Problem, whole
from heavylift.plan.fleet.refusal import refusal
from heavylift.plan.fleet.search import SECONDS, search

ALIKE = 1e-12  # relative: dollars that differ by rounding only


def solve(problem: Problem, seconds: float = SECONDS) -> Fleet:
    """Raises InputError with every fault of the problem, or with what is missing when no fleet serves the mix."""
    problem.check()
    found = search(problem, seconds)
    if found is None:
        raise InputError(refusal(problem, seconds))
    counts = _simplest(problem, found.counts)
    shares, busy = assign(problem, counts)
    chosen = [place for place, count in sorted(counts.items()) if count]
    types = tuple(_served(problem, place, counts[place], shares) for place in chosen)
    usd = math.fsum(served.usd_per_hour for served in types)
    bound = min(found.bound, usd)
    return Fleet(
        usd_per_hour=usd,
        bound=bound,
        gap=(usd - bound) / usd if usd > 0 else 0.0,
        growth=_finite((1 - problem.head_room) / busy) if busy > 0 else None,
        unrouted=_finite(_unrouted(problem, counts)) if busy > 0 else None,
        types=types,
        alone=tuple(_alone(problem, offer, usd) for offer in problem.offers),
    )


def _simplest(problem: Problem, counts: Mapping[int, int]) -> Mapping[int, int]:
    """One type alone where it costs no more: the fewest instances of it, then by name. Else the counts as they are."""
    usd = math.fsum(problem.offers[place].usd_per_hour * count for place, count in counts.items())
    if any(offer.at_least for offer in problem.offers):
        return counts
    alike = [
        (each.count, each.name, place)
        for place, each in enumerate(_alone(problem, offer, usd) for offer in problem.offers)
        if each.count is not None and each.usd_per_hour is not None and each.usd_per_hour <= usd * (1 + ALIKE)
    ]
    return {min(alike)[2]: min(alike)[0]} if alike else counts


def _finite(factor: float) -> float | None:
    """None for loads so small that no number says how often they fit."""
    return factor if math.isfinite(factor) else None


def _unrouted(problem: Problem, counts: Mapping[int, int]) -> float:
    """Every type gets the same mix, in proportion to what it can take of it."""
    taken = 0.0
    for place, count in counts.items():
        loads = [problem.load(problem.offers[place], bucket) for bucket in problem.asked]
        if count and None in loads:
            return 0.0
        if count:
            whole_load = math.fsum(load for load in loads if load is not None)
            taken += count / whole_load if whole_load > 0 else math.inf
    return (1 - problem.head_room) * taken


def _served(problem: Problem, place: int, count: int, shares: Shares) -> Served:
    offer, buckets, loads = problem.offers[place], problem.buckets, problem.pairs()
    own = {pair: share for pair, share in sorted(shares.items()) if pair[0] == place}
    return Served(
        name=offer.name,
        count=count,
        usd_per_hour=offer.usd_per_hour * count,
        load=math.fsum(share * loads[pair] for pair, share in own.items()),
        requests_per_second=math.fsum(share * buckets[pair[1]].requests_per_second for pair, share in own.items()),
        shares=tuple(Share(buckets[pair[1]], share) for pair, share in own.items()),
    )


def _alone(problem: Problem, offer: Offer, usd: float) -> Alone:
    """The cheapest fleet of this type only."""
    loads = {bucket: problem.load(offer, bucket) for bucket in problem.asked}
    for bucket, load in loads.items():
        if load is None:
            return Alone(offer.name, None, None, None, f"cannot serve {problem.buckets[bucket]} within the SLO")
    full = whole(math.fsum(load for load in loads.values() if load is not None) / (1 - problem.head_room))
    count = max(full, problem.minimum_instances, offer.at_least)
    if offer.at_most is not None and count > offer.at_most:
        return Alone(offer.name, None, None, None, f"would need {count}, and at most {offer.at_most} may be had")
    cost = offer.usd_per_hour * count
    return Alone(offer.name, count, cost, 1 - usd / cost if cost > 0 else 0.0, None)
