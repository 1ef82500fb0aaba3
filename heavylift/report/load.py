"""Reads a run: the folder with its report.json and samples.jsonl.gz, or the samples alone.

Not from S3 (heavylift/deploy/reports.py brings a run to a folder).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from heavylift.benchmark.report import FORMAT, build_report
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.verdict import judge
from heavylift.errors import InputError

REPORT, SAMPLES = "report.json", "samples.jsonl.gz"


def load_run(path: Path) -> tuple[dict[str, Any], Recording]:
    """(report, recording) of a run's folder, or of a samples file, which is judged anew. Raises InputError."""
    if path.is_dir():
        return load_report(path / REPORT), load_samples(path / SAMPLES)
    recording = load_samples(path)
    return build_report(recording, judge(recording), samples=str(path)), recording


def load_side(path: Path) -> list[Recording]:
    """One side of a comparison: a samples file, a run's folder, or a folder of runs' folders. Raises InputError."""
    if not path.is_dir():
        return [load_samples(path)]
    if (path / SAMPLES).is_file():
        return [load_samples(path / SAMPLES)]
    found = [load_samples(file) for file in sorted(path.glob(f"*/{SAMPLES}"))]
    if not found:
        raise InputError(f"{path} has no {SAMPLES}, nor has any folder in it")
    return found


def load_report(path: Path) -> dict[str, Any]:
    """The report at `path`. Raises InputError if there is none, or not one of this format."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{path} cannot be read as a report: {error}") from None
    named = report.get("format") if isinstance(report, dict) else None
    if named != FORMAT:
        raise InputError(f"{path} has the format {named!r}; this version reads {FORMAT!r}")
    return dict(report)


def load_samples(path: Path) -> Recording:
    """The samples at `path`. Raises InputError if there are none, or they are damaged."""
    try:
        return Recording.load(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except FormatError as error:
        raise InputError(f"{path} cannot be read as samples: {error}") from None
