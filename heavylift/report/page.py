"""The page of one benchmark run: a single HTML file that needs nothing else, not even a network.

Not a server, and no script in it. Every value in it is escaped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from heavylift.benchmark.judgement import COUNTED
from heavylift.benchmark.load import Load, OpenLoad
from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.verdict import percent
from heavylift.report import axis, distribution
from heavylift.report.curve import curve
from heavylift.report.load import REPORT, SAMPLES, load_report, load_samples
from heavylift.report.stack import HEIGHT, stack
from heavylift.report.table import COLUMNS, busy, cells, headline, mark
from heavylift.report.timeline import throughput, timeline

PAGE = "report.html"


def write_report(folder: Path, report: Mapping[str, Any], recording: Recording) -> Path:
    """Write report.html into `folder`, whole or not at all, and give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_whole(folder / PAGE, render(report, recording).encode(errors="replace"))


def write_whole(target: Path, content: bytes) -> Path:
    """Write a file, whole or not at all, and give its path."""
    partial = target.with_name(f".{target.name}")
    partial.write_bytes(content)
    return partial.replace(target)


def write_page(folder: Path) -> Path:
    """Draw the page of a run whose report.json and samples.jsonl.gz are in `folder`. Raises InputError."""
    return write_report(folder, load_report(folder / REPORT), load_samples(folder / SAMPLES))


def render(
    report: Mapping[str, Any], recording: Recording, steps: Sequence[Mapping[str, Any]] = (), found: str = ""
) -> str:
    """The page's HTML. `steps`, of `heavylift.capacity/1`, are the rates that were tried around this run; `found` is
    what they say together."""
    answered = [sample for sample in recording.measured if sample.ok]
    latencies = {"from the intended send": [sample.latency_ms for sample in answered]}
    latencies["from the actual send"] = [(sample.end_s - sample.sent_s) * 1000 for sample in answered]
    failed = [math.inf] * (len(recording.measured) - len(answered))
    return template("report.html.j2").render(
        report=report,
        run=recording.run,
        headline=headline(report),
        doubt=busy(report),
        columns=list(zip(COLUMNS.values(), cells(report), strict=True)),
        mark=mark,
        evidence=evidence,
        timeline=timeline(recording),
        throughput=throughput(recording),
        histogram=distribution.histogram(latencies["from the intended send"]),
        tail=distribution.tail({name: values + failed for name, values in latencies.items()}),
        clocks={name: _points(values) for name, values in latencies.items()},
        stack=stack(report),
        stack_height=HEIGHT,
        curve=curve(steps),
        steps=steps,
        found=found,
        limits=[row for row in report["judgements"] if row["metric"] == "e2e_latency"],
        environment=_environment(report, recording),
        failures=_failures(recording),
        lag_ms=max(((sample.sent_s - sample.intended_s) * 1000 for sample in recording.measured), default=None),
    )


def template(name: str) -> Template:
    """A page's template, with what all of them use."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": share}
    environment.globals["canvas"] = {
        side: getattr(axis, side) for side in ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")
    }
    return environment.get_template(name)


def _points(values: Sequence[float]) -> dict[str, float | None]:
    """P50, P90, P99 and the slowest, in ms."""
    points: dict[str, float | None] = {f"P{p}": percentile(values, p) if values else None for p in (50, 90, 99)}
    return points | {"slowest": max(values, default=None)}


def _environment(report: Mapping[str, Any], recording: Recording) -> dict[str, str]:
    """What was measured, where, with what."""
    run, benchmark = recording.run, recording.run.benchmark
    subject = benchmark.subject
    instances = "instance" if subject.instance_count == 1 else "instances"
    return {
        "endpoint": run.endpoint,
        "endpoint config": run.endpoint_config or "not asked (measured by URL)",
        "gate digest": run.gate_digest or "none",
        "asked for": f"{subject.instance_count} {instances} {subject.instance_type}",
        "weights": f"{subject.dtype}, quantization {subject.quantization}",
        "load": f"{_load(benchmark.load)}, {benchmark.batch} in a request",
        "requests": f"{report['requests']['warmup']} to warm up, {report['requests']['measured']} measured "
        f"of {benchmark.requests} planned",
        "time limit": f"{run.time_limit_s:g} s",
        "workload": f"{benchmark.workload}, seed {benchmark.seed}, SHA-256 {run.workload_digest[:16]}…",
        "load comes from": run.generator,
        "samples": report["samples"],
    }


def _load(load: Load) -> str:
    """`closed loop of 4 clients`, `open loop, poisson arrivals, 40 requests/s`."""
    if not isinstance(load, OpenLoad):
        return f"closed loop of {load.concurrency} client{'' if load.concurrency == 1 else 's'}"
    more = f" to {load.to_rate:g} in {load.ramp_s:g} s" if load.arrivals == "ramp" else ""
    shared = f", by {load.generators} generators" if load.generators > 1 else ""
    rate = "the trace's own times" if load.replays else f"{load.rate:g}{more} requests/s"
    return f"open loop, {load.arrivals} arrivals, {rate}{shared}, at most {load.max_in_flight} under way"


def _failures(recording: Recording) -> list[tuple[int, str, str]]:
    """(count, kind, message) of failed requests, the most frequent first, at most twelve."""
    errors = [sample.error for sample in recording.samples if sample.error is not None]
    counted = Counter((error["kind"], error["message"]) for error in errors)
    return [(count, kind, message) for (kind, message), count in counted.most_common(12)]


def evidence(row: Mapping[str, Any]) -> str:
    """What the verdict on a target rests on, in a sentence; empty where it rests on nothing."""
    if row.get("violations") is None:
        return _batches(row) if row.get("batches") else ""
    counted = COUNTED.get(row["metric"], "requests")
    text = f"{row['violations']} of {row['requests']} {counted} missed it"
    if row["effective_requests"] < row["requests"]:
        text += f", in clusters, so that they weigh as {row['effective_requests']}"
    would = "even without a miss so few would not pass" if row["allowed"] is None else f"{row['allowed']} would pass"
    text += f"; {would} at {percent(row['confidence'])} confidence"
    bounded = row["interval"] is not None and any(end is not None for end in row["interval"])
    return text + (f"; it lies {_between(row)}" if bounded else "")


def _batches(row: Mapping[str, Any]) -> str:
    """Of a rate."""
    text = f"by {row['batches']} batches of {row['requests']} requests"
    return f"{text} it lies {_between(row)} at {percent(row['confidence'])} confidence"


def _between(row: Mapping[str, Any]) -> str:
    unit, digits = row["unit"], 4 if row["unit"] == "USD" else 1

    def shown(end: float | None) -> str:
        if end is None:
            return "unbounded"
        return share(end) if unit == "share" else f"{number(end, digits)} {unit}"

    low, high = row["interval"]
    return f"between {shown(low)} and {shown(high)}"


def number(value: float | None, digits: int = 1) -> str:
    """`1,234.5`, or `-` for what was not measured."""
    return "-" if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """0.995 is `99.5 %`."""
    return "-" if value is None else percent(value)
