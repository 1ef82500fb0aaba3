"""Measured settings of one engine → its coefficients: decode times first, then the times to the first token.

Not the measuring. The closed forms are those of heavylift.plan.performance.speed, so that what is fitted is what plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from heavylift.calibrate.solve import Solution, solve
from heavylift.plan.performance.coefficients import NAMES, Calibration, Coefficients
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.numbers import Numbers
from heavylift.plan.performance.speed import Request, Speed
from heavylift.plan.performance.work import Work

DECODING = ("memory", "compute", "step", "row", "latency", "bandwidth")
BEGINNING = ("prompt", "crowd")


@dataclass(frozen=True)
class Setting:
    """One measurement under a closed loop of `rows` clients: seconds per output token, seconds to the first one."""

    work: Work
    device: Device
    degree: int
    rows: int
    request: Request
    per_token: float
    first_token: float | None

    def speed(self, coefficients: Coefficients) -> Speed:
        """The closed form of this setting."""
        return Speed(self.work, self.device, self.degree, coefficients)

    @property
    def saturated(self) -> bool:
        """Most clients waited in the engine's queue, which no closed form of one batch describes."""
        return self.first_token is not None and self.first_token > self.request.answer * self.per_token / 2


def predicted(settings: Sequence[Setting], coefficients: Coefficients) -> Numbers:
    """Seconds per output token of each setting."""
    return np.array([float(s.speed(coefficients).per_token(s.rows, s.request)) for s in settings])


def predicted_first(settings: Sequence[Setting], coefficients: Coefficients) -> Numbers:
    """Seconds to the first token of each setting."""
    return np.array([float(s.speed(coefficients).first_token(s.rows, s.request)) for s in settings])


def fit(settings: Sequence[Setting], prior: Calibration) -> Calibration:
    """`prior` with its coefficients, covariance and residuals moved to what was measured."""
    point = prior.point()
    decoding = solve(
        lambda values: predicted(settings, replace(point, **values)),
        [setting.per_token for setting in settings],
        prior_of(prior, DECODING),
    )
    point = replace(point, **decoding.median)
    begun = [setting for setting in settings if setting.first_token is not None and not setting.saturated]
    found = {name: (decoding, place) for place, name in enumerate(DECODING)}
    first_residual = prior.first_residual
    if begun:
        beginning = solve(
            lambda values: predicted_first(begun, replace(point, **values)),
            [setting.first_token or 0.0 for setting in begun],
            prior_of(prior, BEGINNING),
        )
        point = replace(point, **beginning.median)
        found |= {name: (beginning, place) for place, name in enumerate(BEGINNING)}
        first_residual = beginning.residual
    return replace(
        prior,
        how="measured",
        median={name: float(getattr(point, name)) for name in NAMES},
        covariance=joined(prior, found),
        residual=decoding.residual,
        first_residual=first_residual,
        rows=len(settings),
    )


def prior_of(prior: Calibration, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Median, and spread of the logarithm, of each named coefficient."""
    spread = {name: float(np.sqrt(prior.covariance[place][place])) for place, name in enumerate(NAMES)}
    return {name: (prior.median[name], spread[name]) for name in names}


def joined(prior: Calibration, found: dict[str, tuple[Solution, int]]) -> tuple[tuple[float, ...], ...]:
    """One matrix over NAMES: the fits' blocks, and the prior's variance for what no fit touched."""
    joined = np.zeros((len(NAMES), len(NAMES)))
    for i, one in enumerate(NAMES):
        for j, other in enumerate(NAMES):
            if one in found and other in found and found[one][0] is found[other][0]:
                joined[i, j] = found[one][0].covariance[found[one][1], found[other][1]]
            elif i == j:
                joined[i, j] = prior.covariance[i][j]
    return tuple(tuple(float(f"{value:.4g}") for value in row) for row in joined)
