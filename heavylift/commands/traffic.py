"""`invoke`, `bench`, `judge`: commands that send requests, or judge what was sent.

Not the benchmark itself: heavylift.benchmark.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from heavylift.benchmark.asynchronous import AsynchronousClient
from heavylift.benchmark.client import Client, HttpClient, InvocationFailed, SageMakerClient
from heavylift.benchmark.cloudwatch import metrics_of
from heavylift.benchmark.load import OpenLoad
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure, measured_span, run_name
from heavylift.benchmark.samples import Recording, Sample
from heavylift.benchmark.sender import results_of, sender
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stage import GateClosed, Place
from heavylift.benchmark.verdict import Verdict
from heavylift.benchmark.verdict import judge as judged
from heavylift.benchmark.workload import Workload, packed
from heavylift.commands import aim
from heavylift.commands.managed import measured_by_job
from heavylift.deploy.console import Console
from heavylift.deploy.prepare import prepare
from heavylift.deploy.told import tell
from heavylift.errors import HeavyliftError, Inconclusive, InputError, SloMissed
from heavylift.plan.plan import Plan
from heavylift.project import Project
from heavylift.report.load import SAMPLES, load_samples
from heavylift.report.table import conclusion, plain
from heavylift.spec import ModelSpec
from heavylift.tune.capacity import HIGHEST, LOWEST, Step, find_capacity
from heavylift.tune.probe import LEAST_SECONDS, Prober, shortest
from heavylift.tune.show import line, shown, write_capacity


def invoke(chosen: argparse.Namespace) -> int:
    """Send texts to the endpoint of a model file and print its outputs, one a line."""
    spec = ModelSpec.from_yaml(chosen.file, chosen.env)
    inputs = chosen.inputs or [line.rstrip("\n") for line in sys.stdin]
    if not inputs:
        raise InputError("there is nothing to send: give texts as arguments, or lines on standard input")
    if chosen.local:
        aim.at_running(Project.find(chosen.file.resolve().parent))
    parameters = {} if chosen.max_new_tokens is None else {"max_new_tokens": chosen.max_new_tokens}
    body = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    try:
        reply = _once(spec).invoke(body)
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


def _once(spec: ModelSpec) -> Client:
    """For one request, to an endpoint of the file's kind."""
    if spec.async_inference is not None:
        try:
            return AsynchronousClient(spec.name, results=results_of(spec.name), concurrency=1)
        except GateClosed as error:
            raise HeavyliftError(str(error)) from None
    component = None if spec.inference_components is None else spec.inference_components[0].name
    return SageMakerClient(spec.name, concurrency=1, component=component)


def bench(chosen: argparse.Namespace) -> int:
    """Run the model file's benchmark from this machine, against its endpoint or a runtime's URL."""
    project, console = Project.find(chosen.file.resolve().parent), Console()
    plan, benchmark = benchmark_of(chosen, project, console)
    if chosen.trace is not None:
        benchmark = replaying(benchmark, chosen.trace)
    if chosen.find_capacity:
        return _capacity(chosen, project, console, benchmark)
    if chosen.managed is not None:
        return _conclude(chosen, project, plan, by_job(chosen, plan, benchmark, console))
    show, total, done = console.progress("requests"), benchmark.warmup_requests + benchmark.plan.requests, 0

    def heard(_sample: Sample) -> None:
        nonlocal done
        done += 1
        show(done, max(done, total))

    about: dict[str, Any] = {"run": run_name(None), "endpoint": chosen.url or plan.name, "heard": heard}
    if chosen.url is None:
        about["metrics"] = metrics_of(Place(plan.name, config=""), benchmark)
    opened = client_of(benchmark, Place(plan.name, config=""), chosen.url)
    with console.working("benchmark"), opened as client:
        recording = measure(benchmark, client, **about)
    return _conclude(chosen, project, plan, recording)


def _conclude(chosen: argparse.Namespace, project: Project, plan: Plan, recording: Recording) -> int:
    """Keep the samples and the report, show them, and give the exit code."""
    run = recording.run.run
    folder = (project.home / "reports" / plan.name if chosen.into is None else chosen.into) / run
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


def by_job(chosen: argparse.Namespace, plan: Plan, benchmark: Benchmark, console: Console) -> Recording:
    """What SageMaker's own job measured. Raises InputError where that lacks a role."""
    if chosen.role is None or chosen.url is not None:
        raise InputError("--managed needs --role, and measures the endpoint itself: leave --url out")
    with console.working("SageMaker's benchmark job"):
        return measured_by_job(
            benchmark, run=run_name(None), endpoint=plan.name, output_uri=chosen.managed, role_arn=chosen.role
        )


def replaying(benchmark: Benchmark, file: Path) -> Benchmark:
    """The same, with a trace's prompts at a trace's times. Raises InputError for what is no trace."""
    try:
        workload = packed(file.name, file.read_bytes())
        times = Workload.load(workload).times_s
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except FormatError as error:
        raise InputError(error.faults) from error
    most = benchmark.load.max_in_flight if isinstance(benchmark.load, OpenLoad) else OpenLoad.max_in_flight
    load = OpenLoad("open", "trace", 0.0, max_in_flight=most)
    asked = len(times) if benchmark.requests is None else min(benchmark.requests, len(times))
    return replace(benchmark, workload=workload, load=load, requests=asked)


def benchmark_of(chosen: argparse.Namespace, project: Project, console: Console) -> tuple[Plan, Benchmark]:
    """The plan and the benchmark of a model file, with this process aimed at where its endpoint is."""
    with console.working("plan"):
        plan = prepare(chosen.file, console.progress("checksums"), env=chosen.env).plan
    if plan.benchmark is None:
        raise InputError(f"{chosen.file} has no 'benchmark': say what to measure, and the targets")
    if chosen.local:
        aim.at_running(project)
    return plan, Benchmark.from_json(plan.benchmark_json())


def _capacity(chosen: argparse.Namespace, project: Project, console: Console, benchmark: Benchmark) -> int:
    """Search for the highest rate that meets the targets, and draw the page of the best run with the whole curve."""
    seconds, name = chosen.seconds, benchmark.subject.model
    faults = [] if 30 <= seconds <= 86_400 else [f"--seconds is {seconds:g}; it must be 30 to 86400"]
    if not LOWEST <= chosen.rate <= HIGHEST:
        faults.append(f"--rate is {chosen.rate:g}; it must be {LOWEST:g} to {HIGHEST:g} requests a second")
    else:
        needed = shortest(benchmark, chosen.rate)
        if needed > seconds:
            faults.append(
                f"--seconds is {seconds:g}; the targets need {needed:.0f} s of requests at --rate {chosen.rate:g}: "
                f"give so many, or begin at {math.ceil(10 * chosen.rate * needed / seconds) / 10:g}"
            )
    if faults:
        raise InputError(faults)
    folder = (project.home / "reports" / name if chosen.into is None else chosen.into) / f"{run_name(None)}-capacity"
    deadline: float = time.monotonic() + seconds

    def seconds_left() -> float:
        return deadline - time.monotonic()

    load = OpenLoad("open", "poisson", chosen.rate)
    with client_of(replace(benchmark, load=load), Place(name, config=""), chosen.url) as client:
        prober = Prober(benchmark, client, chosen.url or name, folder, seconds_left)

        def probe(rate: float) -> Step:
            console.say(f"{rate:.3g} requests/s, {max(0.0, seconds_left()):.0f} s left")
            with console.working(f"{rate:.3g} requests/s"):
                step = prober(rate)
            console.detail(line(step))
            return step

        found = find_capacity(probe, start=chosen.rate, seconds_left=seconds_left, least_seconds=LEAST_SECONDS)
    page = write_capacity(folder, found, prober.kept)
    print(json.dumps(found.to_dict()) if chosen.json else f"{shown(found, benchmark)}\n  report: {page}")
    if found.rate is not None:
        return 0
    return SloMissed.exit_code if found.judged else Inconclusive.exit_code


@contextmanager
def client_of(benchmark: Benchmark, place: Place, url: str | None) -> Iterator[Client]:
    """To the place, or to a runtime by its URL; closed at the end. Raises InputError for what is no URL, or no
    endpoint that takes such requests."""
    if url is None:
        try:
            made = sender(benchmark, place)
        except GateClosed as error:
            raise InputError(str(error)) from None
        yield made
        return
    try:
        client = HttpClient(url)
    except ValueError as error:
        raise InputError(str(error)) from None
    with client:
        yield client


def judge(chosen: argparse.Namespace) -> int:
    """Judge recorded samples again: the same samples give the same report."""
    recording = load_samples(chosen.samples)
    if chosen.cloudwatch:
        if chosen.local:
            aim.at_running(Project.find(Path.cwd()))
        recording = with_metrics(recording)
        recording.save(chosen.samples)
    verdict = judged(recording)
    report: dict[str, Any] = build_report(recording, verdict, samples=str(chosen.samples))
    print(json.dumps(report) if chosen.json else f"{plain([report])}\n{conclusion(report).plain}")
    return _exit(verdict)


def with_metrics(recording: Recording) -> Recording:
    """The same, with what CloudWatch knows of its minutes by now. Raises InputError for nothing."""
    run = recording.run
    endpoint, _, variant = run.endpoint.partition("/")
    span = measured_span(datetime.fromisoformat(run.started_at), recording.samples)
    told = None
    if span is not None and "//" not in run.endpoint:
        told = metrics_of(Place(endpoint, "", variant or None), run.benchmark)(*span)
    if told is None:
        raise InputError(
            f"CloudWatch has no metrics of {run.endpoint} in the minutes of this run: they come a minute or two late, "
            "are kept for 15 days, and are of endpoints only"
        )
    return replace(recording, run=replace(run, sagemaker=told))


def _exit(verdict: Verdict) -> int:
    """The command's exit code; the sentences are in the table's conclusion already."""
    codes = {"PASS": 0, "FAIL": SloMissed.exit_code, "VOID": Inconclusive.exit_code}
    codes["INCONCLUSIVE"] = Inconclusive.exit_code
    return codes[verdict.verdict]
