"""Successive halving: measure all candidates briefly, keep the better half, measure it twice as long, and so on.

Not the measuring of one (trial.py). The rule: K. Jamieson, A. Talwalkar, "Non-stochastic best arm identification and
hyperparameter optimization", 2016. The file's own candidate is never dropped: there must be something to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift.tune.candidates import Candidate


@dataclass(frozen=True)
class Trial:
    """One candidate measured with so many requests. `goodput` is good requests a second: answered, right, and within
    every latency target; `fault` is why it could not be measured, else None."""

    candidate: Candidate
    requests: int
    goodput: float
    tokens_per_second: float | None
    p90_ms: float | None
    fault: str | None = None

    @property
    def worth(self) -> tuple[float, float]:
        """More good requests are better; among equals, less latency."""
        return self.goodput, -math.inf if self.p90_ms is None else -self.p90_ms

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "candidate": self.candidate.to_dict()}


Measure = Callable[[Candidate, int], Trial]


def halve(
    candidates: Sequence[Candidate], measure: Measure, *, requests: int, seconds_left: Callable[[], float]
) -> list[list[Trial]]:
    """The rounds, each with its trials, the best first. The first of `candidates` is the file's own.

    Ends with two candidates, or when the time does: a trial is not begun without time left, and one candidate that
    could not be measured is not tried again.
    """
    own, left, rounds = candidates[0], list(candidates), list[list[Trial]]()
    while True:
        trials: list[Trial] = []
        for candidate in left:
            if seconds_left() <= 0 and trials:
                break
            trials.append(measure(candidate, requests))
        rounds.append(sorted(trials, key=lambda trial: trial.worth, reverse=True))
        able = [trial.candidate for trial in rounds[-1] if trial.fault is None]
        if len(left) <= 2 or len(able) <= 1 or seconds_left() <= 0:
            return rounds
        kept = able[: max(2, len(left) // 2)]
        left, requests = kept if own in kept else [*kept, own], requests * 2
        if len(rounds[-1]) <= len(left):
            return rounds


def best_of(rounds: Sequence[Sequence[Trial]]) -> Trial:
    """The winner of the last round that measured at least two candidates, else of the only one."""
    return next((trials[0] for trials in reversed(rounds) if len(trials) > 1), rounds[0][0])
