"""What one copy of a model does at each batch: times and rates with their spread; its point under a load.

Not the number of copies, nor their price. A copy's batch grows with its load (Little 1961): rows = rate · time in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heavylift.plan.performance.interval import DRAWS, errors
from heavylift.plan.performance.load import Load, Targets
from heavylift.plan.performance.numbers import Numbers, Value
from heavylift.plan.performance.speed import Request, Speed

SURE = 0.9
"""Share of the draws that must keep every target: the P90 of a time is within it."""
BUSIEST = 0.8
"""Of a copy's capacity, at which it is planned to work: beyond, queues grow faster than anybody can add instances."""
PER_TOKEN, FIRST = -2, -1
"""Columns of the normals that carry the closed form's own error."""


@dataclass(frozen=True)
class Point:
    """One copy at work: draws of its batch, its times in seconds, and the requests it answers in a second."""

    rows: Numbers
    first_token: Numbers
    per_token: Numbers
    request: Numbers
    rate: Numbers

    def kept(self, targets: Targets) -> Numbers:
        """For each draw, whether every time is within its target."""
        kept = np.ones(self.request.shape, dtype=bool)
        for target, times in (
            (targets.first_token, self.first_token),
            (targets.per_token, self.per_token),
            (targets.request, self.request),
        ):
            if target is not None:
                kept &= times <= target
        return kept.astype(np.float64)

    def probability(self, targets: Targets) -> float:
        """Share of the draws that keep every target."""
        return float(self.kept(targets).sum()) / len(self.request)


class Capacity(NamedTuple):
    """A batch, and the prompts a second that each draw answers with it."""

    rows: int
    rate: Numbers


@dataclass(frozen=True)
class Copy:
    """One copy of a model, up to `most_rows` in a batch. `speed` holds draws; the residuals are those of its
    calibration, widened where it was made with another class of models."""

    speed: Speed
    request: Request
    most_rows: int
    residual: float
    first_residual: float

    @cached_property
    def batches(self) -> Numbers:
        """(B, 1): every batch up to 8, then in steps of a quarter, up to the largest."""
        found, rows = [], 1
        while rows < self.most_rows:
            found.append(rows)
            rows += max(1, rows // 4)
        return np.array([*found, self.most_rows], dtype=np.float64)[:, None]

    @cached_property
    def per_token(self) -> Numbers:
        """(B, DRAWS) seconds, with the closed form's error."""
        said = self.speed.per_token(self.batches, self.request)
        return np.broadcast_to(said, (len(self.batches), DRAWS)) * errors(self.residual, PER_TOKEN)

    @cached_property
    def rate(self) -> Numbers:
        """(B, DRAWS) prompts answered in a second by full batches."""
        cycle = self.speed.cycle(self.batches, self.request) * errors(self.residual, PER_TOKEN)
        return np.asarray(self.batches / cycle, dtype=np.float64)

    def at(self, place: NDArray[np.int64], busy: Value) -> Point:
        """The point at one batch (index) for each draw; `busy` is 0 in a closed loop."""
        draws = np.arange(DRAWS)
        rows, per_token = self.batches[place, 0], self.per_token[place, draws]
        first = np.asarray(self.speed.first_token(rows, self.request, busy)) * errors(self.first_residual, FIRST)
        whole = first + (self.request.answer - 1) * per_token
        return Point(rows, first, per_token, whole, np.asarray(rows / whole, dtype=np.float64))

    def full(self, place: int) -> Point:
        """The point of a full batch (index), prompts coming one by one, at no more than BUSIEST."""
        busy = self.speed.busy(self.rate[place], self.batches[place, 0], self.request)
        return self.at(np.full(DRAWS, place), np.minimum(busy, BUSIEST))

    def closed(self, rows: int) -> Point:
        """So many prompts under way at once; those beyond the largest batch wait for the ones before them."""
        place = int(np.searchsorted(self.batches[:, 0], min(rows, self.most_rows)))
        point = self.at(np.full(DRAWS, place), 0.0)
        if rows <= self.most_rows:
            return point
        behind = (rows - self.most_rows) / point.rate
        return Point(point.rows, point.first_token + behind, point.per_token, point.request + behind, point.rate)

    def open(self, rate: float) -> Point | None:
        """Prompts come at this rate; None where a tenth of the draws cannot keep up."""
        if np.mean(self.rate[-1] >= rate) < SURE:
            return None
        place = np.minimum(np.argmax(self.rate >= rate, axis=0), len(self.batches) - 1)
        place = np.where(self.rate[-1] >= rate, place, len(self.batches) - 1)
        return self.at(place, self.speed.busy(rate, self.batches[place, 0], self.request))

    @property
    def largest(self) -> Capacity:
        """Of the largest batch, whatever its times."""
        return Capacity(int(self.batches[-1, 0]), self.rate[-1])

    def capacity(self, targets: Targets) -> Capacity | None:
        """The largest batch at which SURE of the draws keep every target; None where even one row is too slow. Times
        only grow with the batch, so that halving finds it."""
        if targets not in self._capacities:
            good, bad, middle = -1, len(self.batches), len(self.batches) - 1  # often the largest will do
            while bad - good > 1:
                kept = self.full(middle).probability(targets) >= SURE
                good, bad = (middle, bad) if kept else (good, middle)
                middle = (good + bad) // 2
            found = None if good < 0 else Capacity(int(self.batches[good, 0]), self.rate[good])
            self._capacities[targets] = found
        return self._capacities[targets]

    @cached_property
    def _capacities(self) -> dict[Targets, Capacity | None]:
        return {}


def under(copy: Copy, load: Load, copies: int) -> Point | None:
    """One of `copies` equal copies under its share of the load; None where it cannot keep up."""
    if load.requests_per_second is not None:
        return copy.open(load.requests_per_second * load.prompts / copies)
    return copy.closed(max(load.prompts, -(-load.rows // copies)))
