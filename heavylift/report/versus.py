"""A comparison for people: a table on the terminal, and a page.

Not the comparing (compare.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from heavylift.benchmark.samples import Recording
from heavylift.benchmark.verdict import percent
from heavylift.report import distribution
from heavylift.report.compare import Comparison, Difference
from heavylift.report.page import share, template

HEADS = ("", "A", "B", "change", "interval", "")
MEANINGS = {
    "worse": "B is worse than A in what is marked so",
    "unclear": "nothing is shown to be worse; more requests, or more runs of each, would tell",
    "same": "B is the same as A within the tolerance",
    "better": "B is better than A in what is marked so, and nothing is shown to be worse",
}


def rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Texts in the order of HEADS: one row for each number, then one for each task."""
    found = [_row(difference) for difference in comparison.differences]
    for task in comparison.tasks:
        change = f"{task.lost} lost, {task.gained} gained"
        found.append((f"{task.task} right", share(task.a), share(task.b), change, _rows(task), task.verdict))
    return found


def plain(comparison: Comparison) -> str:
    """Lines of text without colours; ends without a newline."""
    lines = [HEADS, *rows(comparison)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(
            cell.ljust(width) if place in (0, 5) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    differs = [f"  {key}: {_text(a)} → {_text(b)}" for key, (a, b) in comparison.differs.items()]
    shown += ["", f"{comparison.verdict}: {MEANINGS[comparison.verdict]} (tolerance {comparison.tolerance:.0%})"]
    names = [", ".join(dict.fromkeys(side["runs"])) for side in (comparison.a, comparison.b)]
    shown += [f"A is {names[0]}; B is {names[1]}"]
    shown += ["what differs between the two:", *(differs or ["  nothing that is recorded"])]
    shown += [f"warning: compared by force: {reason}" for reason in comparison.unlike]
    return "\n".join(shown)


def render(comparison: Comparison, a: Sequence[Recording], b: Sequence[Recording]) -> str:
    """The comparison's page: a single HTML file, without a script and without outside resources."""
    series = {
        name: [sample.latency_ms if sample.ok else math.inf for run in runs for sample in run.measured]
        for name, runs in (("A", a), ("B", b))
    }
    return template("comparison.html.j2").render(
        comparison=comparison,
        meaning=MEANINGS[comparison.verdict],
        heads=HEADS,
        rows=rows(comparison),
        tail=distribution.tail(series),
    )


def _row(row: Difference) -> tuple[str, ...]:
    if row.kind == "difference":
        assert row.a is not None and row.b is not None and row.low is not None and row.high is not None
        assert row.change is not None
        interval = f"{row.low * 100:+.2f} .. {row.high * 100:+.2f}"
        change = f"{row.change * 100:+.2f} points"
        return row.name, percent(row.a), percent(row.b), change, interval, row.verdict
    interval = "-" if row.low is None else f"{_number(row.low, 3)} .. {_number(row.high, 3)}"
    name = f"{row.name}, {row.unit}"
    change = _number(row.change, 3)
    change = change if row.change is None or math.isinf(row.change) else f"x {change}"
    return name, _number(row.a, 2), _number(row.b, 2), change, interval, row.verdict


def _rows(task: Any) -> str:
    return f"of {task.rows} rows, {task.changed} changed"


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return "failed" if math.isinf(value) else f"{value:,.{digits}f}"


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
