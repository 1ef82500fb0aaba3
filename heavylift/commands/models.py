"""`validate`, `schema`, `ls`: commands about model files, which need no AWS. `plan` is planning.py.

Not the reading and planning themselves: heavylift.spec, heavylift.plan.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from heavylift.errors import InputError
from heavylift.plan.lock import read_fresh
from heavylift.plan.plan import Plan
from heavylift.plan.show import sized
from heavylift.project import Project
from heavylift.spec import ModelSpec, environments
from heavylift.spec import schema as model_schema


def validate(chosen: argparse.Namespace) -> int:
    """Read a model file in the environment that is named, else plain and in each of its own. Raises its faults."""
    faults: dict[str, None] = {}
    named = [chosen.env] if chosen.env is not None else [None, *environments(chosen.file)]
    for env in named:
        try:
            ModelSpec.from_yaml(chosen.file, env, beside=True)
        except InputError as error:
            faults |= dict.fromkeys(error.faults)
    if faults:
        raise InputError(faults)
    within = [env for env in named if env is not None]
    if chosen.json:
        print(json.dumps({"file": str(chosen.file), "valid": True, "environments": within}, indent=2))
    elif chosen.env is not None:
        print(f"{chosen.file} is valid in {chosen.env}")
    else:
        also = f", also in {', '.join(within)}" if within else ""
        print(f"{chosen.file} is valid{also}")
    return 0


def schema(_chosen: argparse.Namespace) -> int:
    """Print the JSON Schema."""
    print(json.dumps(model_schema(), indent=2))
    return 0


def ls(chosen: argparse.Namespace) -> int:
    """One line for each model file; a faulty one says so and does not hide the others."""
    rows: list[dict[str, str | int]] = []
    faults: list[str] = []
    for file in Project.find(Path.cwd()).models():
        try:
            spec = ModelSpec.from_yaml(file)
            rows.append(_row(Plan.fit(spec, read_fresh(spec, file))))
        except InputError as error:
            faults += error.faults
    if chosen.json:
        print(json.dumps(rows, indent=2))
        for fault in faults:
            print(fault, file=sys.stderr)
        return InputError.exit_code if faults else 0
    if rows:
        shown = [tuple(rows[0]), *(tuple(str(value) for value in row.values()) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        for line in shown:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if faults:
        raise InputError(faults)
    return 0


def _row(made: Plan) -> dict[str, str | int]:
    return {
        "name": made.name,
        "engine": made.engine,
        "dtype": made.dtype,
        "tensor_parallel_degree": made.tensor_parallel_degree,
        "instance_type": made.instance.type,
        "instances": made.instance.count,
        "model": sized(made.model.bytes),
    }
