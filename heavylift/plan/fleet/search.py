"""The counts: a mixed-integer program for HiGHS. Not who serves what (assign.py), nor why there is none (refusal.py).

    minimise Σ price_g · y_g
    where    Σ_g x_gb = 1                                  each bucket b is served whole
             Σ_b x_gb · rate_b / throughput_gb ≤ (1 - head room) · y_g
             x_gb ≤ y_g,   Σ y_g ≥ the minimum,   y_g integer within its bounds

Where the answer has more types than a fleet may have, it is solved again with z_g 0 or 1, y_g ≤ most_g · z_g,
Σ z_g ≤ the most types.

x is continuous: the limit of Mélange's slices (arXiv 2404.14527, section 5), so it never costs more than they do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heavylift.errors import HeavyliftError
from heavylift.plan.fleet.highs import minimise
from heavylift.plan.fleet.problem import Offer, Problem, whole
from heavylift.plan.fleet.rows import Rows

SECONDS = 60.0  # of search; a fleet that is not proven optimal by then says its gap
INFEASIBLE = 2  # scipy.optimize.milp's status
LARGE = 10_000  # pairs of types and buckets


@dataclass(frozen=True)
class Found:
    """Instances by the offer's place, and what no fleet can cost less than, US dollars an hour."""

    counts: dict[int, int]
    bound: float


def search(problem: Problem, seconds: float = SECONDS) -> Found | None:
    """None where there is no such fleet. Deterministic; the order of the offers changes nothing."""
    offers = problem.offers
    order = sorted(range(len(offers)), key=lambda place: offers[place].name)
    kept = [place for place in order if not _dominated(problem, offers[place])]
    smaller = replace(problem, offers=tuple(offers[place] for place in kept))
    if {bucket for _, bucket in smaller.pairs()} != set(problem.asked):
        return None
    found = _search(smaller, seconds, few=False)
    if found is not None and sum(count > 0 for count in found.counts.values()) > problem.most_types:
        least, found = found.bound, _search(smaller, seconds, few=True)
        found = None if found is None else replace(found, bound=max(found.bound, least))
    if found is None:
        return None
    return Found({kept[place]: count for place, count in found.counts.items()}, found.bound)


def _search(problem: Problem, seconds: float, *, few: bool) -> Found | None:
    """`few`: with no more types than the problem allows."""
    offers, many, kinds = problem.offers, len(problem.pairs()), len(problem.offers)
    most = [_most(problem, offer) for offer in offers]
    scale = max((offer.usd_per_hour for offer in offers), default=0.0) or 1.0
    used = kinds if few else 0
    solved = minimise(
        [0.0] * many + [offer.usd_per_hour / scale for offer in offers] + [0.0] * used,
        [0.0] * many + [float(offer.at_least) for offer in offers] + [0.0] * used,
        [1.0] * many + [float(count) for count in most] + [1.0] * used,
        _rows(problem, most, few=few),
        [0] * many + [1] * (kinds + used),
        seconds,
    )
    if solved.status == INFEASIBLE:
        return None
    if solved.x is None:
        raise HeavyliftError(f"no fleet was found in {seconds:g} s ({solved.message}); offer fewer types or buckets")
    counts = {place: round(solved.x[many + place]) for place in range(kinds)}
    bound = solved.fun if solved.mip_dual_bound is None else solved.mip_dual_bound
    return Found(counts, float(bound) * scale)


def _rows(problem: Problem, most: Sequence[int], *, few: bool) -> Rows:
    """The constraints over the columns x (one for each pair), y and, if `few`, z (one for each offer)."""
    pairs, kinds = problem.pairs(), len(problem.offers)
    many = len(pairs)
    rows, columns = Rows(many + (2 if few else 1) * kinds), {pair: column for column, pair in enumerate(pairs)}
    for bucket in problem.asked:
        rows.add({column: 1.0 for pair, column in columns.items() if pair[1] == bucket}, 1.0, 1.0)
    for place in range(kinds):
        count, used = many + place, many + kinds + place
        loads = {columns[pair]: load for pair, load in pairs.items() if pair[0] == place}
        rows.add(loads | {count: problem.head_room - 1}, -math.inf, 0.0)
        for column, load in loads.items():
            if load < 1:  # implied by the capacity where the load is more
                rows.add({column: 1.0, count: -1.0}, -math.inf, 0.0)
        if few:
            rows.add({count: 1.0, used: -float(most[place])}, -math.inf, 0.0)
    rows.add({many + place: 1.0 for place in range(kinds)}, float(problem.minimum_instances), math.inf)
    if few:
        rows.add({many + kinds + place: 1.0 for place in range(kinds)}, 0.0, float(problem.most_types))
        if many > LARGE:  # a tighter relaxation, at the price of a row for each pair
            for pair, column in columns.items():
                rows.add({column: 1.0, many + kinds + pair[0]: -1.0}, -math.inf, 0.0)
    return rows


def _most(problem: Problem, offer: Offer) -> int:
    """More of a type than this is never cheaper: all that it can serve, and the minimum."""
    loads = [load for bucket in problem.asked if (load := problem.load(offer, bucket)) is not None]
    enough = math.ceil(math.fsum(loads) / (1 - problem.head_room))
    enough = max(enough, problem.minimum_instances, offer.at_least)
    return enough if offer.at_most is None else min(enough, offer.at_most)


def _dominated(problem: Problem, offer: Offer) -> bool:
    """Whether a whole number of another type's instances does the same work for less money."""
    return not offer.at_least and any(_replaces(problem, other, offer) for other in problem.offers)


def _replaces(problem: Problem, better: Offer, worse: Offer) -> bool:
    if better.at_most is not None or better.usd_per_hour >= worse.usd_per_hour:
        return False
    times = 1
    for bucket in problem.asked:
        if problem.load(worse, bucket) is None:
            continue
        if problem.load(better, bucket) is None:
            return False
        times = max(times, whole(worse.throughput[bucket] / better.throughput[bucket]))
        if times * better.usd_per_hour >= worse.usd_per_hour:
            return False
    return True
