"""A rate that was measured (requests, tokens or good requests a second) against its limit, by batch means.

Not the verdict (judgement.py). The run is cut into batches of consecutive answers; batch i has amount a_i in t_i
seconds, and the rate is the sum of all a_i over that of all t_i. Against a limit r the differences d_i = a_i - r t_i
are tested by Student's t: their mean is above 0 exactly where the rate is above r (A. M. Law, "Simulation Modeling and
Analysis", on batch means and ratio estimators). Whatever hangs together within a batch does no harm.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from heavylift.benchmark.beta import student_quantile, student_tail

FEWEST, MOST = 5, 20  # batches
FEWEST_EACH = 4  # answers in a batch
RATES = (
    "tokens_per_second", "requests_per_second", "goodput", "cost_per_1k_good_requests_usd", "cost_per_1m_tokens_usd",
)  # fmt: skip


@dataclass(frozen=True)
class Batches:
    """Amounts and seconds of consecutive batches."""

    amounts: tuple[float, ...]
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, ends: Sequence[tuple[float, float]], start: float, together: int) -> Batches | None:
        """Of (end in seconds, amount) of each request, in order of end, from `start` on; None of too few. `together`:
        how many are under way at a time; a batch has at least twice as many, since they may end together."""
        each = _each(together)
        count = min(MOST, len(ends) // each)
        if count < FEWEST:
            return None
        bounds = [round(len(ends) * place / count) for place in range(count + 1)]
        times = [start, *(ends[bound - 1][0] for bound in bounds[1:])]
        amounts = (math.fsum(amount for _, amount in ends[a:b]) for a, b in itertools.pairwise(bounds))
        return cls(tuple(amounts), tuple(b - a for a, b in itertools.pairwise(times)))

    @property
    def rate(self) -> float:
        return math.fsum(self.amounts) / math.fsum(self.seconds)

    def reaches(self, limit: float) -> float:
        """How often a server whose rate is exactly `limit` would look at least so fast."""
        mean, error = self._excess(limit)
        if error == 0:
            return 0.0 if mean > 0 else 1.0
        return student_tail(mean / error, len(self.amounts) - 1)

    def falls_short(self, limit: float) -> float:
        """How often such a server would look at least so slow."""
        mean, error = self._excess(limit)
        if error == 0:
            return 0.0 if mean < 0 else 1.0
        return student_tail(-mean / error, len(self.amounts) - 1)

    def interval(self, risk: float) -> tuple[float, float]:
        """Where the rate lies but for `risk`, half of it on each side."""
        _, error = self._excess(self.rate)
        reach = student_quantile(risk / 2, len(self.amounts) - 1) * error / fmean(self.seconds)
        return max(0.0, self.rate - reach), self.rate + reach

    def _excess(self, limit: float) -> tuple[float, float]:
        """The mean of the differences and its standard error; what is less than rounding is none."""
        pairs = zip(self.amounts, self.seconds, strict=True)
        differences = [amount - limit * seconds for amount, seconds in pairs]
        error = stdev(differences) / math.sqrt(len(differences))
        return fmean(differences), 0.0 if error < 1e-9 * fmean(self.amounts) else error


def least_answers(together: int) -> int:
    """The fewest that make batches."""
    return FEWEST * _each(together)


def _each(together: int) -> int:
    return max(FEWEST_EACH, 2 * together)
