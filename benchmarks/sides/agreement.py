"""Whether two generators measured the same: their ratio with its bootstrap interval.

Not the measuring (streams.py). The sides are measured in turns, and the rounds are drawn with replacement, the same for
both: what changes on the machine from round to round changes both. Within a round neighbours are drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sides.streams import Streams

from heavylift.report.resample import MOST_RESAMPLES, block_length, quantiles, ratio_interval

RISK, TOLERANCE, SEED = 0.05, 0.05, 7
SHARES = (0.5, 0.9)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """Theirs over ours, of one percentile; `low`..`high` hold all that are told together with 95 % confidence."""

    name: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Noise: the interval holds 1. Else they agree as far as it reaches, where that is not beyond 5 %."""
        if self.low <= 1 <= self.high:
            return "agree within noise"
        within = self.low >= 1 / (1 + TOLERANCE) and self.high <= 1 + TOLERANCE
        return f"agree within {TOLERANCE:.0%}" if within else "differ"

    @property
    def sentence(self) -> str:
        ends = f"between {self.low:.3f} and {self.high:.3f}"
        return f"{self.name}: {self.ours:.2f} and {self.theirs:.2f}, x {self.ratio:.3f}, {ends}: {self.verdict}"

    def to_dict(self) -> dict[str, Any]:
        said = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}
        return {**said, "verdict": self.verdict}


def agreement(ours: Sequence[Streams], theirs: Sequence[Streams], names: Sequence[str]) -> list[Ratio]:
    """Of each of these times, at P50 and P90; the risk of a false difference is divided among them (Bonferroni)."""
    found, risk = [], RISK / (len(names) * len(SHARES))
    for name in names:
        sides = [[np.asarray(run.times[name]) for run in side] for side in (ours, theirs)]
        rng = np.random.default_rng(SEED)
        picks = rng.integers(len(ours), size=(MOST_RESAMPLES, len(ours)))
        drawn = [np.array([_quantiles([side[pick] for pick in some], rng) for some in picks]).T for side in sides]
        seen = [quantiles(np.sort(np.concatenate(side)), SHARES) for side in sides]
        for place, part in enumerate(SHARES):
            low, high = ratio_interval(drawn[1][place], drawn[0][place], risk)
            one, other = float(seen[0][place]), float(seen[1][place])
            found.append(Ratio(f"{name}_p{part * 100:g}", one, other, other / one, low, high))
    return found


def _quantiles(runs: Sequence[Values], rng: np.random.Generator) -> Values:
    """(shares,) of one resample: of each run circular blocks of neighbours, as many values as it has."""
    drawn = []
    for run in runs:
        length = block_length(len(run))
        starts = rng.integers(len(run), size=-(-len(run) // length))
        places = (starts[:, None] + np.arange(length)).reshape(-1)[: len(run)] % len(run)
        drawn.append(run[places])
    return quantiles(np.sort(np.concatenate(drawn)), SHARES)
