"""`calibrate`: measures the model's engine, fits the plan's coefficients, and shows how far they are off.

Not the measuring nor the fit (heavylift.calibrate). What it writes is read by `plan --measured`, and by no synthesis.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from heavylift.calibrate.document import MeasuredFile
from heavylift.calibrate.machine import Machine
from heavylift.calibrate.measure import DEGREES, SMALL, measure
from heavylift.calibrate.recorded import observations
from heavylift.calibrate.study import Study
from heavylift.deploy.console import Console
from heavylift.deploy.prepare import Prepared, prepare
from heavylift.errors import InputError
from heavylift.project import Project
from heavylift.report.load import load_side
from heavylift.spec import ModelSpec

MIB = 2**20
BUSY = 1.25
"""A batch's usual time over its fastest, above which the numbers are not worth much."""


def calibrate(chosen: argparse.Namespace) -> int:
    """Measure here with --local, else read the benchmark's recordings; fit, write, show."""
    project = Project.find(chosen.file.resolve().parent)
    prepared = prepare(chosen.file, Console().progress("checksums"), env=chosen.env)
    if prepared.plan.engine != "native":
        raise InputError(f"'calibrate' fits engine native; {chosen.file} has engine {prepared.plan.engine}")
    if chosen.local:
        study = _here(prepared, chosen.file)
    else:
        study = _recorded(prepared, project.home / "reports" / prepared.plan.name)
    found = study.result(datetime.now(UTC))
    output = project.home / "measured" / f"{found.name}.json" if chosen.output is None else chosen.output
    found.write(output)
    print(found.to_json() if chosen.json else _text(found, output), end="")
    return 0


def _here(prepared: Prepared, file: Path) -> Study:
    folder = ModelSpec.from_yaml(file, prepared.env).model.path
    if folder is None:
        source = prepared.plan.model.source
        raise InputError(f"--local measures weights of a local folder; {file} names {source}: give model.path")
    study = Study(prepared.plan, prepared.lock, (), (), Machine.here())
    config = prepared.lock.model.config
    assert config is not None and study.machine is not None
    most = max(1, study.machine.threads)
    degrees = [each for each in DEGREES if each <= most and not study.family.check(config, each)]
    measured = measure(prepared.plan, file.resolve().parent / folder, degrees, Console().say)
    return Study(prepared.plan, prepared.lock, measured.observations, measured.peaks, study.machine, measured.noise)


def _recorded(prepared: Prepared, folder: Path) -> Study:
    if not folder.is_dir():
        raise InputError(
            f"{folder} has no recordings of {prepared.plan.name}: run `heavylift bench`, or measure here with --local"
        )
    plan = prepared.plan
    small = plan.model.weights_bytes / plan.tensor_parallel_degree < SMALL
    seen = tuple(observations(load_side(folder), plan.engine, plan.dtype, small))
    return Study(plan, prepared.lock, seen)


def _text(found: MeasuredFile, output: Path) -> str:
    """Predicted and measured beside each other; what the fit has not seen is marked."""
    machine = found.machine
    where = "recorded on endpoints" if machine is None else f"{machine.processor}, {machine.threads} threads"
    lines = [f"{found.name}: {found.engine} {found.dtype}, {where}; {found.calibration.rows} batches fitted", ""]
    head = f"{'degree':>6} {'batch':>5} {'tokens/s measured':>18} {'predicted':>10} {'error':>7}"
    lines.append(head + (f" {'MiB measured':>14} {'predicted':>10} {'error':>7}" if found.memory is not None else ""))
    for row in found.rows:
        speed = f"{row.tokens_per_second:>18,.0f} {row.predicted_tokens_per_second:>10,.0f} {row.speed_error:>+7.1%}"
        memory = ""
        if row.bytes is not None and row.predicted_bytes is not None and row.memory_error is not None:
            memory = f" {row.bytes / MIB:>14,.0f} {row.predicted_bytes / MIB:>10,.0f} {row.memory_error:>+7.1%}"
        lines.append(f"{row.degree:>6} {row.batch:>5} {speed}{memory}{'  held out' if row.held_out else ''}")
    if found.noise is not None and found.noise > BUSY:
        lines += ["", f"the machine was busy: a batch usually took {found.noise:.1f} times its fastest; measure again"]
    return "\n".join([*lines, "", f"written to {output}; `heavylift plan FILE --measured {output}` counts with it", ""])
