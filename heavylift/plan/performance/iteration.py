"""One copy's iterations as the simulation of continuous batching asks for them. Not a simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heavylift.plan.performance.speed import Speed


@dataclass(frozen=True)
class Iteration:
    """Of a decoder-only model: `speed` with one number for each coefficient. Seconds and tokens."""

    speed: Speed

    @property
    def outside(self) -> float:
        """Seconds that a request takes besides iterations."""
        return float(self.speed.begin)

    def decode(self, rows: int, context: int) -> float:
        """One iteration that gives `rows` sequences a token each; `context` cached tokens in all."""
        return float(self.speed.decode(np.asarray(float(rows)), context * self.speed.work.kv_bytes))

    def prefill(self, start: int, end: int) -> float:
        """What reading tokens `start` to `end` of a prompt adds to an iteration."""
        before = self.speed.prompt(start) if start > 0 else 0.0
        return max(0.0, float(self.speed.prompt(end)) - float(before))
