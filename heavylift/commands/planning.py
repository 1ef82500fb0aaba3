"""`plan`: what a model file becomes, one field's arithmetic, a fleet for a mix of requests, a trace simulated.

Not the answering itself: heavylift.plan; nor the pictures: heavylift.report.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Iterable
from typing import Any

from heavylift.calibrate.document import read_calibration
from heavylift.deploy.console import Console
from heavylift.deploy.prepare import Prepared, prepare
from heavylift.errors import InputError
from heavylift.plan import facts, show
from heavylift.plan.explain import explain
from heavylift.plan.lock import Lock, lock_path
from heavylift.plan.performance.coefficients import Calibration
from heavylift.plan.section import Section, drawn, plain
from heavylift.plan.stale import stale_prices
from heavylift.spec import ModelSpec


def plan(chosen: argparse.Namespace) -> int:
    """Inspect the weights, write the lock, show the plan; or what one of the options asks."""
    if chosen.fleet is not None and chosen.simulate is not None:
        raise InputError("--fleet and --simulate are two questions; ask them one after the other")
    if chosen.engine is not None and chosen.fleet is None and chosen.simulate is None:
        raise InputError("--engine belongs to --fleet and --simulate; the plan's own is 'engine' in the model file")
    if chosen.fleet is not None:
        return _fleet(chosen)
    if chosen.simulate is not None:
        return _simulate(chosen)
    made = _prepared(chosen)
    _pictures(chosen, made)
    if chosen.recommend_json:
        print(json.dumps(_recommendation(chosen, made), indent=2))
    elif chosen.explain is not None:
        found = explain(made.plan, chosen.explain)
        _print(chosen, found, [_section_json(section) for section in found])
    elif chosen.json:
        print(made.plan.to_json(), end="")
    else:
        _print(chosen, show.sections(made.plan), None)
        print(f"lock    {lock_path(chosen.file, chosen.env)}", file=sys.stderr)
    for sentence in stale_prices(made.plan, datetime.datetime.now(datetime.UTC).date()):
        print(sentence, file=sys.stderr)
    return 0


def _prepared(chosen: argparse.Namespace, *, wide: bool = True) -> Prepared:
    """`wide`: with the alternatives of engines that this version cannot run."""
    console = Console()
    with console.working(f"plan {chosen.file}"):
        return prepare(
            chosen.file,
            console.progress("checksums"),
            _calibrations(chosen),
            wide=wide,
            env=chosen.env,
            config=chosen.config,
        )


def _calibrations(chosen: argparse.Namespace) -> list[Calibration]:
    """What --measured names."""
    return [] if chosen.measured is None else [read_calibration(chosen.measured)]


def _pictures(chosen: argparse.Namespace, made: Prepared) -> None:
    if chosen.html is None and chosen.png is None:
        return
    from heavylift.commands.reporting import write

    if chosen.html is not None:
        from heavylift.report.plan_page import render

        write(chosen.html, render(made.plan).encode(errors="replace"))
    if chosen.png is not None:
        from heavylift.report.plan_picture import to_png

        write(chosen.png, to_png(made.plan))


def _recommendation(chosen: argparse.Namespace, made: Prepared) -> dict[str, Any]:
    """The parameters of SageMaker's AIRecommendationJob, for the best candidates."""
    from heavylift.deploy.recommend import job

    lacking = [f"--{name}" for name in ("bucket", "role") if getattr(chosen, name) is None]
    if lacking:
        raise InputError(f"--recommend-json also needs {' and '.join(lacking)}: it works in an account's S3")
    spec, bucket = ModelSpec.from_yaml(chosen.file, chosen.env), chosen.bucket
    return job(
        made.plan,
        model_uri=spec.model.s3 or f"s3://{bucket}/{made.plan.weights_prefix}",
        output_uri=f"s3://{bucket}/recommendations/{made.plan.name}/",
        role_arn=chosen.role,
        workload_config=made.plan.name,
    )


def _fleet(chosen: argparse.Namespace) -> int:
    from heavylift.plan.fleet import solve
    from heavylift.plan.fleet.ask import ask
    from heavylift.plan.fleet.document import FleetFile, read
    from heavylift.plan.fleet.pools import endpoint_config, hosted
    from heavylift.plan.fleet.show import answer_json, sections
    from heavylift.plan.parallel import Subject

    file = read(chosen.fleet)
    spec, lock = _learned(chosen)
    measured = not isinstance(file, FleetFile) or _measured(file)
    subject = None if measured else Subject.of(spec, lock, chosen.engine)
    asked = ask(file, chosen.fleet.parent, subject, _calibrations(chosen))
    fleet = solve(asked.problem)
    settings = {served.name: _settings(served.name, lock) for served in fleet.types if hosted(fleet)}
    config = None
    if hosted(fleet):
        config = endpoint_config(spec.name, asked.problem, fleet, settings, asked.models(spec.name))
    _print(chosen, sections(spec.name, asked, fleet), answer_json(spec.name, asked, fleet, config))
    return 0


def _measured(file: Any) -> bool:
    """Every type's throughputs are in the file, or in its CSV."""
    if not file.types:
        return file.profiles is not None
    return file.profiles is not None or all(entry.throughput is not None for entry in file.types.values())


def _settings(name: str, lock: Lock) -> dict[str, Any]:
    """Time-outs and volume of one type, as the plan computes them."""
    from heavylift.plan import times

    fact = facts.instances().get(name)
    if fact is None:
        return {}
    weights = lock.model.weights.bytes
    found: dict[str, Any] = {
        "ModelDataDownloadTimeoutInSeconds": times.download_timeout(0, fact).value,
        "ContainerStartupHealthCheckTimeoutInSeconds": times.health_timeout(weights, weights, fact).value,
    }
    if fact.nvme is False:
        found["VolumeSizeInGB"] = times.volume(0).value
    return found


def _simulate(chosen: argparse.Namespace) -> int:
    from heavylift.plan.demand import NEW_TOKENS, PROMPT_TOKENS
    from heavylift.plan.parallel import Subject
    from heavylift.plan.simulate import read_trace
    from heavylift.plan.simulate.compare import compare
    from heavylift.plan.simulate.show import comparison_json, sections
    from heavylift.plan.simulate.ways import calibration, seconds, ways
    from heavylift.plan.traffic import traffic_of
    from heavylift_runtime.engines.registry import ENGINES

    trace = read_trace(chosen.simulate)
    spec, lock = _learned(chosen)
    subject = Subject.of(spec, lock, chosen.engine)
    if spec.instance_type == "auto" and chosen.engine is not None:
        raise InputError(f"--engine {chosen.engine} needs an instance_type in {chosen.file}: nothing else decides it")
    name = spec.instance_type if spec.instance_type != "auto" else _prepared(chosen, wide=False).plan.instance.type
    fact = facts.instances()[name]
    calibrations = _calibrations(chosen)
    found = list(ways(subject, fact, spec.initial_instance_count, trace, calibrations))
    if not found:
        raise InputError(f"no parallel plan of engine {subject.engine} is valid on {name}")
    targets = traffic_of(spec, NEW_TOKENS, PROMPT_TOKENS, streams=ENGINES[subject.engine].streams).targets
    comparison = compare(trace, found, seconds(targets))
    option = next(option for option, faults in subject.options(fact) if not faults)
    label = f"{len(trace)} requests; times of an iteration {calibration(option, calibrations).label}"
    title = f"{spec.name} on {spec.initial_instance_count} · {name}, {subject.engine}"
    _print(chosen, sections(title, comparison, label), comparison_json(spec.name, name, comparison, label))
    return 0


def _learned(chosen: argparse.Namespace) -> tuple[ModelSpec, Lock]:
    """The model file and its lock; with --engine also where this version has no engine that could serve it."""
    if chosen.engine is None:
        made = _prepared(chosen, wide=False)
        return ModelSpec.from_yaml(chosen.file, chosen.env), made.lock
    spec = ModelSpec.from_yaml(chosen.file, chosen.env)
    lock = lock_path(chosen.file, chosen.env)
    if lock.is_file():
        from heavylift.plan.lock import read_fresh

        return spec, read_fresh(spec, chosen.file, chosen.env)
    from heavylift.weights.inspect import inspect

    return spec, inspect(spec, chosen.file.parent)


def _print(chosen: argparse.Namespace, sections: Iterable[Section], document: Any) -> None:
    """JSON where it is asked for; colours and folded columns on a terminal; plain lines elsewhere."""
    if chosen.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        from rich.console import Console as Terminal

        Terminal(highlight=False).print(drawn(sections))
    else:
        print(plain(sections), end="")


def _section_json(section: Section) -> dict[str, Any]:
    rows = [dict(zip(section.head, row, strict=True)) for row in section.lines]
    return {"title": section.title, "rows": rows, "note": section.note}
