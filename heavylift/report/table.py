"""A report on the terminal: one row in the columns of the FLAN-T5 table, and each target with what was measured.

Not the page (page.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from heavylift.report.stack import in_a_line

COLUMNS = {
    "model": "Model",
    "engine": "Engine",
    "quantization": "Quantization",
    "batch": "Batch",
    "tensor_parallel_degree": "Tensor parallel",
    "workers": "Workers",
    "p50_ms": "P50 (ms)",
    "p90_ms": "P90 (ms)",
    "p99_ms": "P99 (ms)",
    "tokens_per_second": "Tokens/s",
    "data_quality": "Data quality",
}
BUSY = 0.8  # of one processor: Python computes on one at a time
TEXTS = ("model", "engine", "quantization", "data_quality")
COLOURS = {"PASS": "green", "FAIL": "red", "VOID": "yellow", "INCONCLUSIVE": "yellow"}
MARKS = {True: "met", False: "missed", None: "not judged"}


def mark(judgement: Mapping[str, Any]) -> str:
    """What became of a target, in a word or two."""
    return "undecided" if judgement.get("outcome") == "inconclusive" else MARKS[judgement["passed"]]


def cells(report: Mapping[str, Any]) -> list[str]:
    """The row's texts in the order of COLUMNS; what was not measured is `-`."""
    return [_text(report["table"][key]) for key in COLUMNS]


def table(reports: Sequence[Mapping[str, Any]]) -> Table:
    """One row for each report, for a rich console."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for key, title in COLUMNS.items():
        drawn.add_column(title, justify="left" if key in TEXTS else "right", overflow="fold")
    for report in reports:
        drawn.add_row(*map(Text, cells(report)))
    return drawn


def plain(reports: Sequence[Mapping[str, Any]]) -> str:
    """The same table as lines of text without colours, for a log or a pipe; ends without a newline."""
    rows = [list(COLUMNS.values()), *(cells(report) for report in reports)]
    columns = []
    for key, column in zip(COLUMNS, zip(*rows, strict=True), strict=True):
        width = max(map(len, column))
        columns.append([cell.ljust(width) if key in TEXTS else cell.rjust(width) for cell in column])
    lines = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
    return "\n".join([lines[0], "  ".join("-" * len(column[0]) for column in columns), *lines[1:]])


def conclusion(report: Mapping[str, Any]) -> Text:
    """The verdict, why it is void, a line for each target, where the time goes; `.plain`: without colours."""
    verdict = report["verdict"]
    lines = Text.assemble((verdict, f"bold {COLOURS[verdict]}"), f"  {headline(report)}")
    for reason in report["void"]:
        lines.append(f"\n  void: {reason}")
    if doubt := busy(report):
        lines.append(f"\n  warning: {doubt}", style="yellow")
    for judgement in report["judgements"]:
        colour = COLOURS[{True: "PASS", False: "FAIL", None: "VOID"}[judgement["passed"]]]
        lines.append(f"\n  {mark(judgement):<10}", style=colour)
        lines.append(f"  {judgement['sentence']}")
    if where := in_a_line(report):
        lines.append(f"\n  {where}")
    return lines


def busy(report: Mapping[str, Any]) -> str | None:
    """What a generator that was busy itself does to the numbers: of a closed load it shows in no lag."""
    share = report.get("load", {}).get("cpu_share")  # older reports tell of none
    if share is None or share < BUSY:
        return None
    return f"the generator used {share:.0%} of a processor: part of these times may be its own"


def headline(report: Mapping[str, Any]) -> str:
    """What the verdict means, in one sentence without its full stop."""
    targets, requests = len(report["judgements"]), report["requests"]
    missed = sum(judgement["passed"] is False for judgement in report["judgements"])
    measured = f"{requests['measured']} requests, {report['seconds']:.1f} s"
    if report["verdict"] == "VOID":
        return f"this run cannot judge {report['name']} ({measured})"
    if report["verdict"] == "INCONCLUSIVE":
        return f"too few requests to decide whether {report['name']} meets its targets ({measured})"
    if missed:
        return f"{report['name']} missed {missed} of {targets} targets ({measured})"
    return f"{report['name']} met its {'target' if targets == 1 else f'{targets} targets'} ({measured})"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
