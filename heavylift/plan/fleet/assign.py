"""Who serves what when the counts are known: two linear programs. Not the counts (search.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from heavylift.plan.fleet.highs import minimise
from heavylift.plan.fleet.problem import TOLERANCE, Pair, Problem
from heavylift.plan.fleet.rows import Rows

Shares = dict[Pair, float]


def assign(problem: Problem, counts: Mapping[int, int]) -> tuple[Shares, float]:
    """The shares of each bucket that keep the busiest type as idle as can be, and how busy that one is (1: full).

    `counts` is by the offer's place. Asserts that such shares exist within the head room.
    """
    pairs = {pair: load for pair, load in problem.pairs().items() if counts.get(pair[0])}
    if not pairs:
        return {}, 0.0
    scale = max(load / counts[offer] for (offer, _), load in pairs.items())
    rows, columns = _whole_buckets(problem, pairs, 1)
    busiest = len(pairs)
    for place, count in counts.items():
        loads = {columns[pair]: load / scale / count for pair, load in pairs.items() if pair[0] == place}
        if loads:
            rows.add(loads | {busiest: -1.0}, -math.inf, 0.0)
    values = _minimised([0.0] * busiest + [1.0], [1.0] * busiest + [math.inf], rows)
    shares = {pair: min(1.0, values[column]) for pair, column in columns.items() if values[column] > TOLERANCE}
    busy = max(
        math.fsum(share * pairs[pair] for pair, share in shares.items() if pair[0] == place) / count
        for place, count in counts.items()
        if count
    )
    allowed = (1 - problem.head_room) * (1 + 10 * TOLERANCE) + 10 * TOLERANCE
    assert busy <= allowed, f"a fleet that is {busy:.9f} full, of {allowed:.9f} allowed"
    return shares, busy


def served_share(problem: Problem) -> float:
    """The largest share of every rate that the quotas suffice for, at most 1."""
    pairs = problem.pairs()
    rows, columns = _whole_buckets(problem, pairs, 1, of_share=True)
    for place, offer in enumerate(problem.offers):
        loads = {columns[pair]: load for pair, load in pairs.items() if pair[0] == place}
        if loads and offer.at_most is not None:
            scale = max(*loads.values(), float(offer.at_most))
            scaled = {column: load / scale for column, load in loads.items()}
            rows.add(scaled, -math.inf, (1 - problem.head_room) * offer.at_most / scale)
    values = _minimised([0.0] * len(pairs) + [-1.0], [1.0] * (len(pairs) + 1), rows)
    return values[len(pairs)]


def _whole_buckets(
    problem: Problem, pairs: Mapping[Pair, float], more: int, *, of_share: bool = False
) -> tuple[Rows, dict[Pair, int]]:
    """A row for each bucket: its shares add up to 1, or to the last column."""
    rows, columns = Rows(len(pairs) + more), {pair: column for column, pair in enumerate(pairs)}
    for bucket in problem.asked:
        terms = {column: 1.0 for pair, column in columns.items() if pair[1] == bucket}
        if of_share:
            rows.add(terms | {len(pairs): -1.0}, 0.0, 0.0)
        else:
            rows.add(terms, 1.0, 1.0)
    return rows, columns


def _minimised(price: list[float], high: list[float], rows: Rows) -> list[float]:
    solved = minimise(price, [0.0] * len(price), high, rows)
    assert solved.x is not None, f"HiGHS gave no assignment: {solved.message}"
    return [float(value) for value in solved.x]
