"""The cheapest fleet by other ways: trying all counts, and Mélange's formulation; drawn problems; what a fleet keeps.

Not quick: only for problems of a few types and sizes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from heavylift.plan.fleet import Bucket, Fleet, Offer, Problem

SLACK = 2e-6  # twice the solver's tolerance, of an instance
NUMBERS = st.sampled_from([0.1, 0.25, 0.7, 1.0, 1.01, 2.0, 3.67, 7.5, 20.0])


def problem_of(rates: list[float], prices: list[float], tables: list[list[float]], **bounds: object) -> Problem:
    buckets = tuple(Bucket(100 * (place + 1), 50, rate) for place, rate in enumerate(rates))
    offers = tuple(
        Offer(f"t{place}", price, tuple(row)) for place, (price, row) in enumerate(zip(prices, tables, strict=True))
    )
    return Problem(buckets, offers, **bounds)  # type: ignore[arg-type]  # bounds are the problem's own fields


@st.composite
def problems(draw: st.DrawFn, offers: int = 3, buckets: int = 3, quotas: bool = True) -> Problem:
    many, kinds = draw(st.integers(1, buckets)), draw(st.integers(1, offers))
    rates = draw(st.lists(st.one_of(st.just(0.0), NUMBERS), min_size=many, max_size=many))
    prices = draw(st.lists(NUMBERS, min_size=kinds, max_size=kinds))
    cell = st.one_of(st.just(0.0), NUMBERS.map(lambda number: number + 0.3))
    tables = draw(st.lists(st.lists(cell, min_size=many, max_size=many), min_size=kinds, max_size=kinds))
    problem = problem_of(rates, prices, tables, head_room=draw(st.sampled_from([0.0, 0.1, 0.5])))
    if not quotas:
        return problem
    bounded = [replace(o, at_most=draw(st.sampled_from([None, 0, 1, 2, 5]))) for o in problem.offers]
    return replace(
        problem,
        offers=tuple(bounded),
        minimum_instances=draw(st.integers(1, 3)),
        most_types=draw(st.sampled_from([1, 2, 5])),
    )


def brute_force(problem: Problem, slack: float) -> float | None:
    """The least cost over all counts, each judged with exact fractions by the independent `_carries`."""
    best: float | None = None
    ranges = []
    for offer in problem.offers:
        loads = [problem.load(offer, bucket) or 0.0 for bucket in problem.asked]
        most = max(math.ceil(sum(loads) / (1 - problem.head_room)), problem.minimum_instances)
        ranges.append(range((most if offer.at_most is None else min(most, offer.at_most)) + 1))
    assume(math.prod(map(len, ranges)) <= 3000)
    for counts in itertools.product(*ranges):
        cost = math.fsum(offer.usd_per_hour * n for offer, n in zip(problem.offers, counts, strict=True))
        enough = sum(counts) >= problem.minimum_instances and sum(map(bool, counts)) <= problem.most_types
        if enough and (best is None or cost < best) and _carries(problem, counts, slack):
            best = cost
    return best


def _carries(problem: Problem, counts: tuple[int, ...], slack: float) -> bool:
    """Whether the counts suffice: no set of weights on the types proves otherwise.

    By linear programming duality the buckets fit exactly when for all weights w ≥ 0 of the types the cheapest way to
    serve each bucket costs no more than the capacity is worth: Σ_b min_g w_g · load_gb ≤ Σ_g w_g · capacity_g. It
    is enough to try the weights at which two types are equally good for a bucket, along chains of such ties.
    """
    head = Fraction(problem.head_room).limit_denominator(1000)
    capacity = [Fraction(count) * (1 - head) + (Fraction(slack) if count else 0) for count in counts]
    loads: list[dict[int, Fraction]] = []
    for bucket in problem.asked:
        able = {
            place: Fraction(load)
            for place, offer in enumerate(problem.offers)
            if counts[place] and (load := problem.load(offer, bucket)) is not None
        }
        if not able:
            return False
        loads.append(able)
    used = [place for place, count in enumerate(counts) if count]
    return all(
        sum(min(weights[place] * load for place, load in able.items()) for able in loads)
        <= sum(weights[place] * capacity[place] for place in used)
        for weights in _weights(used, loads)
    )


def _weights(used: list[int], loads: list[dict[int, Fraction]]) -> list[dict[int, Fraction]]:
    """Weights of the dual's vertices: trees of ties that connect some types, the others 0."""
    ties = {
        (one, other, able[other] / able[one])
        for able in loads
        for one, other in itertools.permutations(used, 2)
        if one in able and other in able
    }
    found: list[dict[int, Fraction]] = []
    for start in used:
        stack = [{start: Fraction(1)}]
        seen: set[tuple[tuple[int, Fraction], ...]] = set()
        while stack:
            weights = stack.pop()
            key = tuple(sorted(weights.items()))
            if key in seen:
                continue
            seen.add(key)
            found.append({place: weights.get(place, Fraction(0)) for place in used})
            stack += [
                {**weights, other: weights[one] / ratio}
                for one, other, ratio in ties
                if one in weights and other not in weights
            ]
    return found


def slices(problem: Problem, factor: int) -> float | None:
    """Mélange's formulation: each bucket in `factor` equal slices, each wholly on one type; by trying all."""
    pieces = [
        {p: load / factor for p, o in enumerate(problem.offers) if (load := problem.load(o, bucket)) is not None}
        for bucket in problem.asked
        for _ in range(factor)
    ]
    assume(math.prod(max(len(piece), 1) for piece in pieces) <= 5000)
    best = None
    for chosen in itertools.product(*pieces):
        loads = [0.0] * len(problem.offers)
        for piece, place in zip(pieces, chosen, strict=True):
            loads[place] += piece[place]
        cost = sum(
            offer.usd_per_hour * math.ceil(load / (1 - problem.head_room) - 1e-9)
            for offer, load in zip(problem.offers, loads, strict=True)
        )
        best = cost if best is None else min(best, cost)
    return best


def check(problem: Problem, fleet: Fleet) -> None:
    """Every request is served once, nobody is overloaded, every bound holds, and the sums are right."""
    served = dict.fromkeys(problem.buckets, 0.0)
    offers = {offer.name: offer for offer in problem.offers}
    for part in fleet.types:
        offer, load = offers[part.name], 0.0
        for share in part.shares:
            served[share.bucket] += share.share
            load += (
                share.share * share.bucket.requests_per_second / offer.throughput[problem.buckets.index(share.bucket)]
            )
        assert load == pytest.approx(part.load)
        assert load <= (1 - problem.head_room) * part.count + SLACK
        assert offer.at_least <= part.count <= (math.inf if offer.at_most is None else offer.at_most)
    for bucket in problem.buckets:
        if bucket.requests_per_second > 0:
            assert served[bucket] == pytest.approx(1, abs=2e-6)
    assert fleet.instances >= problem.minimum_instances and len(fleet.types) <= problem.most_types
    assert fleet.usd_per_hour == pytest.approx(sum(offers[n].usd_per_hour * c for n, c in fleet.counts.items()))
