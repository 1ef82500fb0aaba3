"""`invoke`, `bench`, `judge`: commands that send requests, or judge what was sent.

Not the benchmark itself: heavylift.benchmark.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from heavylift.benchmark.client import Client, HttpClient, InvocationFailed, SageMakerClient
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure, run_name
from heavylift.benchmark.samples import Sample
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import Verdict
from heavylift.benchmark.verdict import judge as judged
from heavylift.commands import aim
from heavylift.deploy.console import Console
from heavylift.deploy.prepare import prepare
from heavylift.deploy.told import tell
from heavylift.errors import HeavyliftError, Inconclusive, InputError, SloMissed
from heavylift.project import Project
from heavylift.report.load import SAMPLES, load_samples
from heavylift.report.table import conclusion, plain
from heavylift.spec import ModelSpec


def invoke(chosen: argparse.Namespace) -> int:
    """Send texts to the endpoint of a model file and print its outputs, one a line."""
    spec = ModelSpec.from_yaml(chosen.file)
    inputs = chosen.inputs or [line.rstrip("\n") for line in sys.stdin]
    if not inputs:
        raise InputError("there is nothing to send: give texts as arguments, or lines on standard input")
    if chosen.local:
        aim.at_running(Project.find(chosen.file.resolve().parent))
    parameters = {} if chosen.max_new_tokens is None else {"max_new_tokens": chosen.max_new_tokens}
    body = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    try:
        reply = SageMakerClient(spec.name, concurrency=1).invoke(body)
    except InvocationFailed as error:
        raise HeavyliftError(f"{spec.name} did not answer: {error}") from None
    if chosen.json:
        sys.stdout.buffer.write(reply + b"\n")
        return 0
    try:
        outputs = json.loads(reply)["outputs"]
    except (ValueError, KeyError, TypeError):  # a script may answer in a form of its own
        outputs = [reply.decode(errors="replace")]
    for output in outputs:
        print(output)
    return 0


def bench(chosen: argparse.Namespace) -> int:
    """Run the model file's benchmark from this machine, against its endpoint or a runtime's URL."""
    project = Project.find(chosen.file.resolve().parent)
    console = Console()
    with console.working("plan"):
        plan = prepare(chosen.file, console.progress("checksums")).plan
    if plan.benchmark is None:
        raise InputError(f"{chosen.file} has no 'benchmark': say what to measure, and the targets")
    if chosen.local:
        aim.at_running(project)
    benchmark = Benchmark.from_json(plan.benchmark_json())
    client = _client(plan.name, chosen.url, benchmark.load.concurrency)
    show, total, done = console.progress("requests"), benchmark.warmup_requests + benchmark.plan.requests, 0

    def heard(_sample: Sample) -> None:
        nonlocal done
        done += 1
        show(done, max(done, total))

    run = run_name(None)
    with console.working("benchmark"):
        recording = measure(benchmark, client, run=run, endpoint=chosen.url or plan.name, heard=heard)
    folder = project.home / "reports" / plan.name / run
    folder.mkdir(parents=True, exist_ok=True)
    recording.save(folder / SAMPLES)
    verdict = judged(recording)
    report = build_report(recording, verdict, samples=str(folder / SAMPLES))
    (folder / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    if chosen.json:
        print(json.dumps(report))
    else:
        tell(report, folder)
    return _exit(verdict)


def _client(endpoint: str, url: str | None, concurrency: int) -> Client:
    if url is None:
        return SageMakerClient(endpoint, concurrency=concurrency)
    try:
        return HttpClient(url)
    except ValueError as error:
        raise InputError(str(error)) from None


def judge(chosen: argparse.Namespace) -> int:
    """Judge recorded samples again: the same samples give the same report."""
    recording = load_samples(chosen.samples)
    verdict = judged(recording)
    report: dict[str, Any] = build_report(recording, verdict, samples=str(chosen.samples))
    print(json.dumps(report) if chosen.json else f"{plain([report])}\n{conclusion(report).plain}")
    return _exit(verdict)


def _exit(verdict: Verdict) -> int:
    """The command's exit code; the sentences are in the table's conclusion already."""
    codes = {"PASS": 0, "FAIL": SloMissed.exit_code, "VOID": Inconclusive.exit_code}
    codes["INCONCLUSIVE"] = Inconclusive.exit_code
    return codes[verdict.verdict]
