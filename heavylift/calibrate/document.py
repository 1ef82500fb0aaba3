"""What a calibration measured and found, as a file beside no template: `heavylift.measured/1`, JSON. Not the fit.

Synthesis never reads it: measuring changes no deployment. `heavylift plan --measured FILE` does.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heavylift.calibrate.machine import Machine
from heavylift.errors import InputError
from heavylift.plan.performance.coefficients import Calibration

FORMAT = "heavylift.measured/1"


@dataclass(frozen=True)
class Row:
    """One degree and batch, over prompts and answers of several lengths: generated tokens per second, bytes of all
    processes; `held_out`: the fit has not seen it. None where it was not measured."""

    degree: int
    batch: int
    held_out: bool
    tokens_per_second: float
    predicted_tokens_per_second: float
    bytes: int | None
    predicted_bytes: int | None

    @property
    def speed_error(self) -> float:
        """As a share of what was measured."""
        return self.predicted_tokens_per_second / self.tokens_per_second - 1

    @property
    def memory_error(self) -> float | None:
        """As a share of what was measured."""
        if self.bytes is None or self.predicted_bytes is None:
            return None
        return self.predicted_bytes / self.bytes - 1


@dataclass(frozen=True)
class MeasuredFile:
    """`memory` has bytes: `server` and `rank`. `machine`, `memory` and `noise` are None where recordings were read;
    `noise` is how much longer than its fastest reply a batch usually took."""

    name: str
    weights_digest: str
    engine: str
    dtype: str
    machine: Machine | None
    noise: float | None
    measured_at: str
    calibration: Calibration
    memory: dict[str, float] | None
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        """Indented; errors are beside the numbers they are of."""
        document: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        document["calibration"] = self.calibration.to_dict()
        document["rows"] = [
            {**asdict(row), "speed_error": round(row.speed_error, 4), "memory_error": _rounded(row.memory_error)}
            for row in self.rows
        ]
        return json.dumps(document, indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(self.to_json())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)


def read_calibration(path: Path) -> Calibration:
    """The coefficients of such a file. Raises InputError for anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as measurements: {error}") from None
    named = document.get("format") if isinstance(document, dict) else None
    if named != FORMAT:
        raise InputError(f"{path} has the format {named!r}; this version reads {FORMAT!r}, from `heavylift calibrate`")
    try:
        return Calibration.from_dict(document.get("calibration"))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged: {error}; measure anew with `heavylift calibrate`") from None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
