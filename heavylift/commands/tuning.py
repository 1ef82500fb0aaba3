"""`tune`: which serving options answer the most good requests a second, by measurement on this machine.

Not an edit of the model file: it prints the lines to put there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace

from heavylift.benchmark.load import ClosedLoad
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.deploy.console import Console
from heavylift.deploy.prepare import prepare
from heavylift.errors import InputError
from heavylift.report import versus
from heavylift.report.compare import Comparison, compare
from heavylift.spec import ModelSpec
from heavylift.tune.candidates import Candidate, candidates
from heavylift.tune.halving import Trial, best_of, halve
from heavylift.tune.show import trials as shown
from heavylift.tune.trial import Tried, label

FORMAT = "heavylift.tuning/1"
FIRST_REQUESTS, FINAL_REQUESTS, FINAL_TURNS = 16, 64, 2


def tune(chosen: argparse.Namespace) -> int:
    """Successive halving over candidates, then the winner and the file's own in turns, compared with their noise."""
    spec, console = ModelSpec.from_yaml(chosen.file, chosen.env), Console()
    made = prepare(chosen.file.resolve(), console.progress("checksums"), env=chosen.env)
    if faults := _faults(chosen, spec, made.plan.engine, made.plan.benchmark is None):
        raise InputError(faults)
    benchmark = Benchmark.from_json(made.plan.benchmark_json())
    clients = benchmark.load.concurrency if chosen.concurrency is None else chosen.concurrency
    benchmark = replace(benchmark, load=ClosedLoad("closed", clients), warmup=None, probes=0)
    assert spec.model.path is not None
    tried = Tried(spec, made.lock, (chosen.file.resolve().parent / spec.model.path).resolve(), benchmark)
    cores = len(os.sched_getaffinity(0))
    in_flight = clients * benchmark.batch
    asked = candidates(made.plan, cores=cores, in_flight=in_flight, count=chosen.candidates, seed=benchmark.seed)
    deadline = time.monotonic() + chosen.seconds

    def measured(candidate: Candidate, requests: int) -> Trial:
        console.say(f"{label(candidate)}: {requests} requests, {max(0.0, deadline - time.monotonic()):.0f} s left")
        with console.working(label(candidate)):
            trial = tried.measure(candidate, requests)
        console.detail(trial.fault or f"{trial.goodput:.2f} good requests/s")
        return trial

    rounds = halve(asked, measured, requests=FIRST_REQUESTS, seconds_left=lambda: deadline - time.monotonic())
    best, own = best_of(rounds), Candidate.own(made.plan)
    found = None if best.candidate == own or best.fault is not None else _against(tried, own, best.candidate, console)
    if chosen.json:
        document = {"format": FORMAT, "best": best.to_dict(), "own": own.to_dict()}
        against = {"against_own": None if found is None else found.to_dict()}
        rows = {"rounds": [[trial.to_dict() for trial in trials] for trials in rounds]}
        print(json.dumps({**document, **against, **rows}))
        return 0
    print(shown(rounds, own))
    if found is None:
        print(f"\nnothing that was tried is better than what {chosen.file} has")
        return 0
    better = "it is better" if found.verdict == "better" else f"but {found.verdict}, as above"
    print(f"\nA is the file's own, B the best found, measured in turns:\n{versus.plain(found)}")
    print(f"\nthe best found ({better}); for {chosen.file}:\n\n{best.candidate.yaml()}")
    return 0


def _against(tried: Tried, own: Candidate, best: Candidate, console: Console) -> Comparison:
    """The two in turns, so that what changes on the machine meanwhile changes both."""
    a, b = list[Recording](), list[Recording]()
    for turn in range(FINAL_TURNS):
        for side, candidate in ((a, own), (b, best)):
            console.say(f"in turns, {turn + 1} of {FINAL_TURNS}: {label(candidate)}")
            with console.working(label(candidate)):
                side.append(tried.record(candidate, FINAL_REQUESTS))
    return compare(a, b)


def _faults(chosen: argparse.Namespace, spec: ModelSpec, engine: str, unmeasured: bool) -> list[str]:
    faults = []
    if not chosen.local:
        faults.append("`heavylift tune` measures on this machine: add --local")
    if unmeasured:
        faults.append(f"{chosen.file} has no 'benchmark': say what to measure, and the targets")
    if spec.model.path is None or engine == "script":
        faults.append(
            f"{chosen.file} must have its weights in 'model.path', and no script: tune starts the engine itself"
        )
    if not 2 <= chosen.candidates <= 200:
        faults.append(f"--candidates is {chosen.candidates}; it must be 2 to 200")
    if chosen.concurrency is not None and not 1 <= chosen.concurrency <= 256:
        faults.append(f"--concurrency is {chosen.concurrency}; it must be 1 to 256")
    if not 10 <= chosen.seconds <= 86_400:
        faults.append(f"--seconds is {chosen.seconds:g}; it must be 10 to 86400")
    return faults
