"""Fits positive coefficients to measured times: maximum a posteriori, in logarithms, by Levenberg and Marquardt.

Not the model of the times: that is a function that comes in. Every coefficient has a prior (median, and standard
deviation of its logarithm), so that what the measurements do not tell stays where it was, with its wide uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heavylift.plan.performance.coefficients import SHARES
from heavylift.plan.performance.numbers import Numbers

NOISE = 0.1
"""Standard deviation of log(measured / predicted) that is expected before anything is known; it weighs the prior."""
STEPS, SMALLEST = 100, 1e-12


@dataclass(frozen=True)
class Solution:
    """`median` by name; `covariance` of the logarithms in the same order; `residual` of log(measured / predicted)."""

    median: dict[str, float]
    covariance: Numbers
    residual: float


def solve(
    predict: Callable[[dict[str, float]], Numbers],
    measured: Sequence[float],
    prior: Mapping[str, tuple[float, float]],
    outliers: float | None = None,
) -> Solution:
    """`predict`: coefficients → times, in the order of `measured`; both positive. `prior`: name → median, spread.

    `outliers`: errors beyond this count by their size, not its square (a pseudo-Huber loss): a machine that does other
    things besides makes some times longer, and none shorter.
    """
    names, target = list(prior), np.log(np.asarray(measured, dtype=np.float64))
    start = np.log([max(prior[name][0], SMALLEST) for name in names])
    spread = np.array([prior[name][1] for name in names])
    most = np.array([0.0 if name in SHARES else np.inf for name in names])

    def residuals(x: Numbers) -> Numbers:
        said = np.log(predict(dict(zip(names, np.exp(x).tolist(), strict=True))))
        errors = said - target
        if outliers is not None:
            errors = np.sign(errors) * outliers * np.sqrt(2 * (np.sqrt(1 + (errors / outliers) ** 2) - 1))
        return np.concatenate([errors, NOISE * (x - start) / spread])

    x = np.minimum(start, most)
    now, damping = residuals(x), 1e-2
    for _ in range(STEPS):
        slopes = _slopes(residuals, x, now)
        normal, pull = slopes.T @ slopes, slopes.T @ now
        tried = np.minimum(x - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), pull), most)
        then = residuals(tried)
        better = now @ now - then @ then
        if better > 0:
            x, now, damping = tried, then, damping / 3
            if better < SMALLEST * max(1.0, float(now @ now)):
                break
        else:
            damping *= 4
            if damping > 1e9:
                break
    slopes = _slopes(residuals, x, now)
    errors = now[: len(target)]
    residual = float(np.sqrt(np.mean(errors**2)))
    noise = max(residual, 0.01) ** 2
    covariance = np.linalg.inv(slopes[: len(target)].T @ slopes[: len(target)] / noise + np.diag(1 / spread**2))
    return Solution(dict(zip(names, np.exp(x).tolist(), strict=True)), covariance.astype(np.float64), residual)


def _slopes(residuals: Callable[[Numbers], Numbers], x: Numbers, now: Numbers) -> Numbers:
    """d residuals / d x by forward differences."""
    width = 1e-6
    columns = [(residuals(x + width * unit) - now) / width for unit in np.eye(len(x))]
    return np.array(columns).T
