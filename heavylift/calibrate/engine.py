"""Observations of one engine on one machine → its coefficients and its memory, with the error on what was held out.

Not the measuring. Times are predicted by the plan's own closed forms; memory as what one process takes anyway, and what
it takes for its share of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from heavylift.calibrate.fit import joined, prior_of
from heavylift.calibrate.observation import Observation, seconds
from heavylift.calibrate.solve import solve
from heavylift.plan.performance.coefficients import NAMES, Calibration
from heavylift.plan.performance.numbers import Numbers
from heavylift.plan.performance.work import Work

OUTLIER = 0.05
"""Of log(measured / predicted): beyond, something else was at work."""
FITTED = ("memory", "compute", "step", "row", "prompt", "latency", "bandwidth", "request")


@dataclass(frozen=True)
class Comparison:
    """One observation beside what is said of it."""

    observation: Observation
    predicted: float

    @property
    def error(self) -> float:
        """Of the seconds, as a share of those measured."""
        return self.predicted / self.observation.seconds - 1


def calibrate(seen: Sequence[Observation], work: Work, dtype: str, prior: Calibration) -> Calibration:
    """The engine's row, fitted to what was seen."""
    point = prior.point()

    def predict(values: dict[str, float]) -> Numbers:
        coefficients = replace(point, **values)
        return np.array([seconds(each, work, dtype, coefficients) for each in seen])

    solution = solve(predict, [each.seconds for each in seen], prior_of(prior, FITTED), outliers=OUTLIER)
    found = {name: (solution, place) for place, name in enumerate(FITTED)}
    median = {name: float(f"{solution.median.get(name, prior.median[name]):.6g}") for name in NAMES}
    return replace(
        prior,
        how="measured",
        median=median,
        covariance=joined(prior, found),
        residual=round(solution.residual, 4),
        first_residual=round(solution.residual, 4),
        rows=len(seen),
    )


def compare(observations: Sequence[Observation], work: Work, dtype: str, calibration: Calibration) -> list[Comparison]:
    """Each observation with its prediction."""
    point = calibration.point()
    return [Comparison(each, seconds(each, work, dtype, point)) for each in observations]
