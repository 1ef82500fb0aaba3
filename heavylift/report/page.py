"""The page of one benchmark run: a single HTML file that needs nothing else, not even a network.

Not a server, and no script in it. Every value in it is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from heavylift.benchmark.samples import Recording
from heavylift.benchmark.verdict import percent
from heavylift.report import chart
from heavylift.report.load import REPORT, SAMPLES, load_report, load_samples
from heavylift.report.table import COLUMNS, MARKS, cells, headline

PAGE = "report.html"


def write_report(folder: Path, report: Mapping[str, Any], recording: Recording) -> Path:
    """Write report.html into `folder`, whole or not at all, and give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    partial, target = folder / f".{PAGE}", folder / PAGE
    partial.write_text(render(report, recording), encoding="utf-8", errors="replace")
    return partial.replace(target)


def write_page(folder: Path) -> Path:
    """Draw the page of a run whose report.json and samples.jsonl.gz are in `folder`. Raises InputError."""
    return write_report(folder, load_report(folder / REPORT), load_samples(folder / SAMPLES))


def render(report: Mapping[str, Any], recording: Recording) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": share}
    answered = [sample.latency_ms for sample in recording.measured if sample.ok]
    return environment.get_template("report.html.j2").render(
        report=report,
        run=recording.run,
        headline=headline(report),
        columns=list(zip(COLUMNS.values(), cells(report), strict=True)),
        marks=MARKS,
        canvas={name: getattr(chart, name) for name in ("WIDTH", "HEIGHT", "LEFT", "RIGHT", "TOP", "BOTTOM")},
        timeline=chart.timeline(recording),
        histogram=chart.histogram(answered),
        limits=[row for row in report["judgements"] if row["metric"] == "e2e_latency"],
        environment=_environment(report, recording),
        failures=_failures(recording),
        lag_ms=max(((sample.sent_s - sample.intended_s) * 1000 for sample in recording.measured), default=None),
    )


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
        "load": f"{benchmark.load.mode} loop, {benchmark.load.concurrency} client(s), batches of {subject.batch}",
        "requests": f"{report['requests']['warmup']} to warm up, {report['requests']['measured']} measured "
        f"of {benchmark.requests} planned",
        "time limit": f"{run.time_limit_s:g} s",
        "workload": f"{benchmark.workload}, seed {benchmark.seed}, SHA-256 {run.workload_digest[:16]}…",
        "load comes from": run.generator,
        "samples": report["samples"],
    }


def _failures(recording: Recording) -> list[tuple[int, str, str]]:
    """(count, kind, message) of failed requests, the most frequent first, at most twelve."""
    errors = [sample.error for sample in recording.samples if sample.error is not None]
    counted = Counter((error["kind"], error["message"]) for error in errors)
    return [(count, kind, message) for (kind, message), count in counted.most_common(12)]


def number(value: float | None, digits: int = 1) -> str:
    """`1,234.5`, or `-` for what was not measured."""
    return "-" if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """0.995 is `99.5 %`."""
    return "-" if value is None else percent(value)
