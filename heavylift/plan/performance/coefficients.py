"""How much of a device's peaks an engine reaches, and what it adds: seven numbers, with their uncertainty.

Not the fitting of them (heavylift.calibrate). One row of coefficients.json for each engine, version and class of
accelerators that was measured; `assumed` rows, with wide uncertainty, for all others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from heavylift.plan.performance.numbers import Numbers, Value

SHARES = ("memory", "compute", "crowd")
"""Coefficients that are at most 1."""


@dataclass(frozen=True)
class Coefficients:
    """Numbers, or arrays of equal length with one draw each."""

    memory: Value
    """Share of the memory's bandwidth that decode steps reach."""
    compute: Value
    """Share of the dense FLOP/s that prefill reaches."""
    step: Value
    """Seconds that a decode step takes for each layer, whatever it computes: launches, scheduling."""
    row: Value
    """Seconds that a decode step takes for each row of its batch: sampling, bookkeeping."""
    prompt: Value
    """Seconds that a prompt takes for each layer, beside its arithmetic."""
    latency: Value
    """Of an all-reduce, over that of the fact tables."""
    bandwidth: Value
    """Of an all-reduce, over that of the fact tables."""
    crowd: Value
    """Prompts' times that one more client of a closed loop adds to the wait for the first token."""
    request: Value
    """Seconds of a request outside the model: HTTP, tokens to text."""


NAMES = tuple(field.name for field in fields(Coefficients))


@dataclass(frozen=True)
class Calibration:
    """A row: medians, the covariance of their logarithms (rows and columns in the order of NAMES), and the error left.

    `subject` is the model: a name, or the digest of the weights. No `accelerators`: all that no other row names.
    `residual` is the standard deviation of log(measured / predicted) of decode times, `first_residual` of the times to
    the first token, both on settings that were held out; `how` is measured or assumed.
    """

    engine: str
    version: str
    accelerators: tuple[str, ...]
    subject: str
    how: str
    median: dict[str, float]
    covariance: tuple[tuple[float, ...], ...]
    residual: float
    first_residual: float
    rows: int
    source: str
    date: str

    @property
    def label(self) -> str:
        """For people: what was measured, or that nothing was."""
        where = ", ".join(self.accelerators) or "any accelerator"
        if self.how == "assumed":
            return f"uncalibrated: assumed for {self.engine} on {where}"
        return f"measured: {self.engine} {self.version} on {where}, {self.rows} settings, {self.date}"

    def point(self) -> Coefficients:
        """The medians."""
        return Coefficients(**self.median)

    def draw(self, normals: Numbers) -> Coefficients:
        """One set for each row of `normals` (draws, len(NAMES)), standard normal numbers."""
        factor = np.linalg.cholesky(np.asarray(self.covariance) + 1e-12 * np.eye(len(NAMES)))
        logs = np.log([max(self.median[name], 1e-12) for name in NAMES]) + normals @ factor.T
        drawn = dict(zip(NAMES, np.exp(logs).T, strict=True))
        return Coefficients(**{name: np.minimum(drawn[name], 1.0) if name in SHARES else drawn[name] for name in NAMES})

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**found, "accelerators": list(self.accelerators), "covariance": [list(row) for row in self.covariance]}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Calibration:
        """The inverse of to_dict; raises ValueError for anything else."""
        names = {field.name for field in fields(cls)}
        if not isinstance(document, dict) or document.keys() != names:
            raise ValueError(f"a calibration has the keys {', '.join(sorted(names))}")
        median, covariance = document["median"], np.asarray(document["covariance"], dtype=np.float64)
        if not isinstance(median, dict) or set(median) != set(NAMES):
            raise ValueError(f"'median' has the keys {', '.join(NAMES)}")
        values = [*median.values(), document["residual"], document["first_residual"]]
        if not all(isinstance(value, int | float) and np.isfinite(value) and value >= 0 for value in values):
            raise ValueError("medians and residuals are finite numbers of at least 0")
        if covariance.shape != (len(NAMES),) * 2 or not np.isfinite(covariance).all():
            raise ValueError(f"'covariance' is a matrix of {len(NAMES)} rows and columns")
        rows = tuple(tuple(map(float, row)) for row in covariance.tolist())
        return cls(**{**document, "accelerators": tuple(document["accelerators"]), "covariance": rows})


@cache
def table() -> tuple[Calibration, ...]:
    """coefficients.json, in its order: measured rows first."""
    text = (resources.files(__name__.rpartition(".")[0]) / "coefficients.json").read_text(encoding="utf-8")
    return tuple(Calibration.from_dict(row) for row in json.loads(text)["rows"])


def calibration_for(engine: str, accelerator: str | None, given: Iterable[Calibration] = ()) -> Calibration:
    """The first row for the engine and accelerator (None: a CPU): of `given`, of the table, else an assumed one."""
    name = "cpu" if accelerator is None else accelerator
    rows = [*given, *table()]
    for wanted in (engine, "any"):
        for row in rows:
            if row.engine == wanted and (name in row.accelerators or not row.accelerators):
                return row
    raise AssertionError("coefficients.json has a row for any engine on any accelerator")
