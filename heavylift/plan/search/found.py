"""What a search found: candidates, the front of those that nothing beats, the best, and why the others are not it.

Not the search.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from heavylift.plan.pareto import front
from heavylift.plan.performance.load import Targets
from heavylift.plan.performance.throughput import SURE
from heavylift.plan.search.candidate import Candidate, Rejected
from heavylift.plan.traffic import Traffic


@dataclass(frozen=True)
class Found:
    """In the order of the fact tables."""

    traffic: Traffic
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]

    @cached_property
    def front(self) -> list[Candidate]:
        """Those that no other beats in dollars, P90 to the first token, P90 of a token, and seconds to load."""
        known = (each for each in self.candidates if each.estimate is not None and each.usd_per_hour is not None)
        return front(known, lambda each: each.costs)

    @property
    def targets(self) -> Targets:
        """What is to be kept."""
        return self.traffic.targets

    def best(self, among: Iterable[Candidate] | None = None) -> tuple[Candidate, str] | None:
        """The cheapest that keeps every target in nine draws of ten; else the cheapest that does in the median; else
        the cheapest; each with the sentence that says which. `among`: of all candidates, if not others."""
        order = sorted(self.candidates if among is None else among, key=_price)
        if not order:
            return None
        for least, sentence in (
            (SURE, "the cheapest that keeps the targets at P90"),
            (0.5, "the cheapest that keeps the targets at P50: none does at P90"),
        ):
            kept = [each for each in order if each.estimate is not None and each.estimate.probability >= least]
            if kept:
                return kept[0], sentence
        if all(each.estimate is None for each in order):
            return order[0], "the cheapest that fits; how fast it is, is not known"
        return order[0], "the cheapest that fits: none is predicted to keep the targets"


def _price(candidate: Candidate) -> tuple[float, int, int]:
    """Dollars an hour (unknown: last), then the fewest devices, then the fewest copies."""
    usd = candidate.usd_per_hour
    return float("inf") if usd is None else usd, candidate.option.split.devices, candidate.option.copies
