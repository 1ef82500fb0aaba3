"""The highest open-loop rate at which an endpoint meets its targets: bracketing, bisection, and a second look.

Not the measuring of one rate (probe.py). A rate counts as met only where the verdict is PASS; INCONCLUSIVE is not met.
The rate that a search ends with is the luckiest of several, so it must pass once more before it is called the capacity.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = "heavylift.capacity/1"
TOLERANCE = 0.1
GROWTH = 2.0
LOWEST, HIGHEST = 0.01, 5000.0  # requests a second


@dataclass(frozen=True)
class Step:
    """One rate that was tried (requests a second, offered); `latency_ms` has p50, p90 and p99, None where unknown."""

    rate: float
    run: str
    verdict: str
    requests_per_second: float | None
    latency_ms: dict[str, float | None]
    sentences: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Capacity:
    """`rate` is None where no rate passed; `confirmed` where it passed twice; `ended` is why the search stopped."""

    rate: float | None
    confirmed: bool
    ended: str
    tolerance: float
    steps: tuple[Step, ...]

    @property
    def judged(self) -> bool:
        """Whether any run could judge: an overloaded server, and an overloaded generator, make a run void."""
        return any(step.verdict != "VOID" for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """`heavylift.capacity/1`."""
        return {"format": FORMAT, **asdict(self)}


Probe = Callable[[float], Step]
Passes = Callable[[float], bool]


class Exhausted(Exception):
    """There is no time left for another probe."""


def find_capacity(
    probe: Probe, *, start: float, seconds_left: Callable[[], float], least_seconds: float, tolerance: float = TOLERANCE
) -> Capacity:
    """Search from `start` requests a second: doubling or halving until one rate passes and a higher one does not, then
    geometric bisection until the two are within `tolerance`, then the lower one again.

    A probe is begun only while `seconds_left` is at least `least_seconds`.
    """
    steps: list[Step] = []

    def passes(rate: float) -> bool:
        if seconds_left() < least_seconds:
            raise Exhausted
        steps.append(probe(rate))
        return steps[-1].verdict == "PASS"

    search = _Search(start)
    try:
        while not search.confirmed and search.goes_on:
            search.bracket(passes)
            search.bisect(passes, tolerance)
            search.confirm(passes)
        ended = search.why
    except Exhausted:
        ended = "the time is used up"
    if steps and all(step.verdict == "VOID" for step in steps):
        ended = f"every run was void: {'; '.join(steps[-1].sentences)}"
    return Capacity(search.low or None, search.confirmed, ended, tolerance, tuple(steps))


@dataclass
class _Search:
    """The highest rate known to pass (0: none) and the lowest known not to (0: none)."""

    rate: float
    low: float = 0.0
    high: float = 0.0
    confirmed: bool = False

    @property
    def goes_on(self) -> bool:
        return self.low > 0 or self.rate >= LOWEST

    @property
    def why(self) -> str:
        if not self.low:
            return "no rate passed"
        return "the rates that pass and fail are within the tolerance" if self.high else "the highest rate passed"

    def bracket(self, passes: Passes) -> None:
        while not (self.low and self.high) and LOWEST <= self.rate <= HIGHEST:
            self._try(self.rate, passes)
            self.rate = self.rate * GROWTH if self.low and not self.high else self.rate / GROWTH

    def bisect(self, passes: Passes, tolerance: float) -> None:
        while self.low and self.high and self.high / self.low > 1 + tolerance:
            self._try(math.sqrt(self.low * self.high), passes)

    def confirm(self, passes: Passes) -> None:
        """Try the answer again; where it fails now it was luck, and the search goes on below it."""
        if not self.low:
            return
        self.confirmed = passes(self.low)
        if not self.confirmed:
            self.rate, self.high, self.low = self.low / GROWTH, self.low, 0.0

    def _try(self, rate: float, passes: Passes) -> None:
        if passes(rate):
            self.low = rate
        else:
            self.high = rate
