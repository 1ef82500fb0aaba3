"""An engine's iterations, from the closed forms of heavylift.plan.performance. Not those forms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from heavylift.plan.performance.speed import Speed

FAR = 1e13  # bytes of cache at which every step is bound by memory


@dataclass(frozen=True)
class EngineTime:
    """A StepTime. `speed` with single coefficients; `prompt` is the trace's mean, which tells an encoder-decoder's
    cross-attention from its own cache.

    Of several pipeline stages each works on another micro-batch: a step lasts as long as one of them takes through all
    stages, and a prompt holds up the others for one stage's share of its time.
    """

    speed: Speed
    prompt: float

    @cached_property
    def _lines(self) -> dict[int, tuple[float, float, float]]:
        """By rows: the least seconds, and those of memory: a straight line over bytes of cache."""
        return {}

    def decode(self, rows: int, context: int) -> float:
        """The larger of two straight lines, found once for each number of rows."""
        stages = self.speed.stages
        line = self._lines.get(rows)
        if line is None:
            batch = np.asarray(max(rows / stages, 1.0))
            least, near, far = (float(self.speed.decode(batch, cached)) for cached in (0.0, FAR, 2 * FAR))
            slope = (far - near) / FAR
            line = self._lines[rows] = (least, near - slope * FAR, slope)
        least, start, slope = line
        each, share = context / rows, max(rows / stages, 1.0)
        prompt = min(self.prompt, each)
        cached = share * self.speed.work.cache_bytes(prompt, each - prompt)
        return max(least, start + slope * cached)

    def prefill(self, start: int, end: int) -> float:
        """The difference of two prompts, of which an iteration waits for one stage's share."""
        return float(self.speed.prompt(end) - self.speed.prompt(start)) / self.speed.stages

    def outside(self, prompt: int) -> float:
        """What comes before the first step, and the prompt's way through the other stages."""
        return float(self.speed.begin) + (1 - 1 / self.speed.stages) * float(self.speed.prompt(prompt))
