"""`versus`: one endpoint and another measured in turns, and compared with their noise.

Not the comparing (heavylift.report): what changes on the network, the machine or by the hour changes both sides here.
"""

from __future__ import annotations

import argparse
import json
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

from heavylift.benchmark.client import Client
from heavylift.benchmark.looks import FEWEST_AUTO
from heavylift.benchmark.run import measure, run_name
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stage import Place
from heavylift.benchmark.verdict import judge
from heavylift.commands.reporting import write
from heavylift.commands.traffic import benchmark_of, client_of
from heavylift.deploy.console import Console
from heavylift.errors import InputError, SloMissed
from heavylift.project import Project
from heavylift.report import versus as shown
from heavylift.report.compare import compare
from heavylift.report.load import SAMPLES
from heavylift.report.page import PAGE


def versus(chosen: argparse.Namespace) -> int:
    """Measure A, the file's endpoint or --url, and B in turns; the exit code is a missed SLO's where B is worse."""
    if faults := _faults(chosen):
        raise InputError(faults)
    project, console = Project.find(chosen.file.resolve().parent), Console()
    plan, benchmark = benchmark_of(chosen, project, console)
    benchmark = part_of(benchmark, chosen.turns)
    home = project.home / "reports" / plan.name if chosen.into is None else chosen.into
    folder = home / f"{run_name(None)}-versus"
    with ExitStack() as stack:
        sides = {
            "a": stack.enter_context(client_of(benchmark, Place(plan.name, config=""), chosen.url)),
            "b": stack.enter_context(client_to(chosen.against, benchmark)),
        }
        runs = in_turns(sides, benchmark, chosen.turns, folder, console)
    found = compare(runs["a"], runs["b"], tolerance=chosen.tolerance / 100)
    write(folder / "comparison.json", json.dumps(found.to_dict(), indent=2).encode())
    write(folder / PAGE, shown.render(found, runs["a"], runs["b"]).encode(errors="replace"))
    if chosen.json:
        print(json.dumps(found.to_dict()))
    else:
        print(f"{shown.plain(found)}\n  report: {folder / PAGE}")
    for side, recordings in runs.items():
        for reason in dict.fromkeys(reason for run in recordings for reason in judge(run, ()).void):
            console.say(f"warning: {side.upper()}: {reason}")
    return SloMissed.exit_code if found.verdict == "worse" else 0


def part_of(benchmark: Benchmark, turns: int) -> Benchmark:
    """What each side runs in a turn: its share of the requests and the time, with the same prompts and arrivals."""
    requests = max(FEWEST_AUTO, -(-benchmark.plan.requests // turns))
    seconds, budget = benchmark.max_seconds / turns, benchmark.max_usd
    most = None if budget is None else budget / (2 * turns)
    return replace(benchmark, requests=requests, max_seconds=max(1.0, seconds), max_usd=most, probes=0, slo=())


def in_turns(
    sides: dict[str, Client], benchmark: Benchmark, turns: int, folder: Path, console: Console
) -> dict[str, list[Recording]]:
    """The recordings of each side, kept in `folder`; each side is first in every other turn."""
    runs: dict[str, list[Recording]] = {side: [] for side in sides}
    for turn in range(turns):
        for side in sorted(sides, reverse=turn % 2 == 1):
            console.say(f"turn {turn + 1} of {turns}: {side.upper()}, {benchmark.requests} requests")
            with console.working(f"{side.upper()}, turn {turn + 1} of {turns}"):
                run = measure(benchmark, sides[side], run=f"{folder.name}/{side}/{turn + 1:02}", endpoint=side.upper())
            kept = folder / side / f"{turn + 1:02}"
            kept.mkdir(parents=True)
            run.save(kept / SAMPLES)
            runs[side].append(run)
    return runs


def client_to(place: str, benchmark: Benchmark) -> AbstractContextManager[Client]:
    """To a runtime's URL, an endpoint, or `endpoint/variant`: that one whatever its weight is. Raises InputError."""
    endpoint, _, variant = place.partition("/")
    return client_of(benchmark, Place(endpoint, "", variant or None), place if "://" in place else None)


def _faults(chosen: argparse.Namespace) -> list[str]:
    faults = []
    if not 2 <= chosen.turns <= 50:
        faults.append(f"--turns is {chosen.turns}; it must be 2 to 50: one says nothing of the noise between turns")
    if not 0 <= chosen.tolerance <= 1000:
        faults.append(f"--tolerance is {chosen.tolerance:g}; it must be 0 to 1000 percent")
    return faults
