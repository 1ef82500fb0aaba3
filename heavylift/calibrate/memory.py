"""Measured peaks → what a process of the runtime takes before it holds a model. Not the plan's ledger.

What a rank holds besides is the ledger's own count (heavylift.plan.memory.native), which this completes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from heavylift.calibrate.measure import Peak
from heavylift.plan.memory import Need

Needs = Callable[[int, int], Need]
"""(degree, rows in a batch) → what one rank holds."""


@dataclass(frozen=True)
class MemoryFit:
    """Bytes of the server's process, and of a rank's beside what it holds."""

    server: float
    rank: float

    @classmethod
    def of(cls, peaks: Sequence[Peak], needs: Needs) -> MemoryFit:
        """Medians over the peaks."""
        rests = [rank - held(needs(peak.degree, peak.batch)) for peak in peaks for rank in peak.ranks]
        return cls(float(median(peak.server for peak in peaks)), float(median(rests)))

    def total(self, degree: int, batch: int, needs: Needs) -> float:
        """Of all processes, with one copy of the model."""
        return self.server + degree * (held(needs(degree, batch)) + self.rank)


def held(need: Need) -> int:
    """Bytes of one rank."""
    return need.weights + need.loading + need.cache + need.activations
