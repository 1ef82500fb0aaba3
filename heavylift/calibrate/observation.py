"""One measured batch of an engine that answers batch after batch, and what the closed form says of it.

Not its measuring (served.py, recorded.py), nor the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heavylift.plan.performance.coefficients import Coefficients
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.numbers import Numbers
from heavylift.plan.performance.speed import Batches
from heavylift.plan.performance.work import Work


@dataclass(frozen=True)
class Observation:
    """A request of so many prompts: tokens of each, tokens generated for each, and its seconds from send to reply.

    `degree` ranks, of which each owns `cores` physical cores.
    """

    degree: int
    cores: float
    prompts: tuple[int, ...]
    answers: tuple[int, ...]
    seconds: float

    @property
    def tokens(self) -> int:
        """Generated, over all rows."""
        return sum(self.answers)


def running(answers: Sequence[int]) -> Numbers:
    """Rows that each step computes: all, until half of them or fewer still run; then only those, and so on.

    This is how the native engine drops rows that have ended (heavylift_runtime.native.generate).
    """
    left = list(answers)
    steps: list[int] = []
    for step in range(max(answers)):
        active = sum(answer > step for answer in answers)
        if active <= len(left) // 2:
            left = [answer for answer in left if answer > step]
        steps.append(len(left))
    return np.array(steps, dtype=np.float64)


def seconds(observation: Observation, work: Work, dtype: str, coefficients: Coefficients) -> float:
    """Of the whole request: its prompts, one after another in the arithmetic, then its steps."""
    device = Device.cpu(observation.cores, dtype)
    speed = Batches(work, device, observation.degree, coefficients)
    prompts = sum(float(speed.reading(1, tokens)) - float(coefficients.request) for tokens in observation.prompts)
    rows = running(observation.answers)
    longest = max(observation.prompts)  # the cross-attention of every row is as wide as the longest
    cached = rows * (longest * work.prompt_kv_bytes + np.arange(len(rows)) * work.kv_bytes)
    return float(prompts + coefficients.request + np.sum(speed.decode(rows, cached)))
