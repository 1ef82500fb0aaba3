"""One measured batch of the native engine, whose prompts came together, and what the closed form says of it.

Not its measuring (served.py, recorded.py), nor the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from heavylift.plan.memory.native import PASS_TOKENS
from heavylift.plan.performance.coefficients import Coefficients
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.numbers import Numbers
from heavylift.plan.performance.speed import Speed
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
    """Rows that each step computes: those whose answers go on."""
    return np.array([sum(answer > step for answer in answers) for step in range(max(answers))], dtype=np.float64)


def seconds(observation: Observation, work: Work, dtype: str, coefficients: Coefficients) -> float:
    """Of the whole request: its prompts, in passes of about so many tokens, then its steps."""
    speed = Speed(work, Device.cpu(observation.cores, dtype), observation.degree, coefficients)
    passes = -(-sum(observation.prompts) // PASS_TOKENS)
    prompts = sum(float(speed.prompt(tokens)) for tokens in observation.prompts)
    rows = running(observation.answers)
    source = fmean(observation.prompts)
    cached = rows * (source * work.prompt_kv_bytes + np.arange(len(rows)) * work.kv_bytes)
    begin = coefficients.request + passes * coefficients.prompt * work.prompt_layers
    return float(prompts + begin + np.sum(speed.decode(rows, cached)))
