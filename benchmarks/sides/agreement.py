"""Whether two generators measured the same: their ratio with its bootstrap interval, rounds resampled whole.

Not the measuring (streams.py). Rounds are drawn with replacement, and within a round neighbours together, so that what
differs from round to round counts as noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sides.streams import Streams

from heavylift.report.resample import quantiles, ratio_interval, resampled_quantiles

RISK, TOLERANCE, SEED = 0.05, 0.05, 7
SHARES = (0.5, 0.9)


@dataclass(frozen=True)
class Ratio:
    """Theirs over ours, of one percentile; `low`..`high` holds it with 95 % confidence."""

    name: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`agree`: the interval holds 1 and nothing beyond the tolerance, or lies within it; `differ`: it does not hold
        1 and reaches beyond; `unclear`: it holds 1, and so much more that it says little."""
        within = self.low >= 1 / (1 + TOLERANCE) and self.high <= 1 + TOLERANCE
        if within:
            return "agree"
        return "unclear" if self.low <= 1 <= self.high else "differ"

    @property
    def sentence(self) -> str:
        return (
            f"{self.name}: {self.verdict}: {self.ours:.2f} and {self.theirs:.2f}, "
            f"x {self.ratio:.3f} ({self.low:.3f} .. {self.high:.3f})"
        )

    def to_dict(self) -> dict[str, Any]:
        said = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}
        return {**said, "verdict": self.verdict}


def agreement(ours: Sequence[Streams], theirs: Sequence[Streams], names: Sequence[str]) -> list[Ratio]:
    """Of each of these times, at P50 and P90."""
    rng = np.random.default_rng(SEED)
    found = []
    for name in names:
        runs = [[np.asarray(run.times[name]) for run in side] for side in (ours, theirs)]
        drawn = [resampled_quantiles(side, SHARES, rng) for side in runs]  # type: ignore[arg-type]
        seen = [quantiles(np.sort(np.concatenate(side)), SHARES) for side in runs]
        for place, part in enumerate(SHARES):
            low, high = ratio_interval(drawn[1][place], drawn[0][place], RISK)
            one, other = float(seen[0][place]), float(seen[1][place])
            found.append(Ratio(f"{name}_p{part * 100:g}", one, other, other / one, low, high))
    return found
