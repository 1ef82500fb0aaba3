"""A search's result for people: lines on the terminal, and the page of its best run with the whole curve.

Not the search.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from heavylift.benchmark.report import build_report
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.report.page import PAGE, render, write_whole
from heavylift.tune.candidates import Candidate
from heavylift.tune.capacity import Capacity, Step
from heavylift.tune.halving import Trial


def line(step: Step) -> str:
    """One rate and what came of it."""
    points = ", ".join(f"{name} {_ms(value)}" for name, value in step.latency_ms.items())
    why = "" if step.verdict == "PASS" or not step.sentences else f" ({step.sentences[0]})"
    return f"{step.rate:8.3g}/s  {step.verdict:<12}  {points}{why}"


def shown(found: Capacity, benchmark: Benchmark) -> str:
    """All rates in order, the capacity, and what good requests cost there."""
    lines = [line(step) for step in sorted(found.steps, key=lambda step: step.rate)]
    lines.append(concluded(found, benchmark))
    if found.rate is not None and benchmark.usd_per_second is not None:
        cost = 1000 * benchmark.usd_per_second / found.rate
        lines.append(f"cost there: {cost:.4f} USD for 1,000 requests")
    return "\n".join(lines)


def concluded(found: Capacity, benchmark: Benchmark) -> str:
    """The capacity and how sure it is, in one sentence; or why there is none."""
    if found.rate is None:
        return f"no capacity: {found.ended}"
    sure = "passed twice" if found.confirmed else "passed once"
    return f"capacity: {found.rate:.3g} requests/s of {benchmark.batch} prompts ({sure}; {found.ended})"


def write_capacity(folder: Path, found: Capacity, kept: Sequence[Recording]) -> Path:
    """capacity.json, and the page of the best run that passed (else of the last) with the curve; gives the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "capacity.json", json.dumps(found.to_dict(), indent=2).encode())
    if not kept:
        return folder / "capacity.json"
    passed = [place for place, step in enumerate(found.steps) if step.verdict == "PASS"]
    best = kept[max(passed, key=lambda place: found.steps[place].rate) if passed else -1]
    report = build_report(best, judge(best), samples=str(folder))
    html = render(report, best, found.to_dict()["steps"], concluded(found, best.run.benchmark))
    return write_whole(folder / PAGE, html.encode(errors="replace"))


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def trials(rounds: Sequence[Sequence[Trial]], own: Candidate) -> str:
    """Every candidate with its longest measurement, the best first; the file's own is marked."""
    longest: dict[Candidate, Trial] = {trial.candidate: trial for trials in rounds for trial in trials}
    heads = (*own.to_dict(), "requests", "good/s", "tokens/s", "P90 ms", "")
    lines = [heads]
    for trial in sorted(longest.values(), key=lambda trial: (trial.requests, trial.worth), reverse=True):
        measured = (f"{trial.goodput:.2f}", _number(trial.tokens_per_second), _number(trial.p90_ms))
        note = trial.fault or ("the file's own" if trial.candidate == own else "")
        lines.append((*map(str, trial.candidate.to_dict().values()), str(trial.requests), *measured, note))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)) + f"  {row[-1]}".rstrip()
        for row in lines
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
