"""A run for other programs: CSV of its requests, JUnit XML and a Markdown summary of its verdict.

Not for people at a screen (page.py, table.py). Each function gives the text of one file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from heavylift.benchmark.samples import Recording
from heavylift.benchmark.verdict import percent
from heavylift.report.table import COLUMNS, busy, cells, headline, mark

CSV_COLUMNS = (
    "index", "phase", "intended_s", "sent_s", "end_s", "latency_ms", "service_ms", "status", "http_status", "error",
    "rows", "correct_rows", "prompt_tokens", "generated_tokens",
)  # fmt: skip
# XML 1.0, section 2.2: what a document may not hold, not even escaped.
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_csv(recording: Recording) -> str:
    """One line for each request, warm-up too, in order of intended send; lines end with CRLF (RFC 4180).

    `latency_ms` is from the intended send, `service_ms` from the actual one; `error` is the kind of failure. What
    was not measured is empty. No text of the endpoint is in it, so no cell can be a spreadsheet's formula.
    """
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow(CSV_COLUMNS)
    for sample in recording.samples:
        tokens = [[getattr(row, f"{which}_tokens") for row in sample.rows] for which in ("prompt", "generated")]
        lines.writerow(
            [
                sample.index, sample.phase, sample.intended_s, sample.sent_s, sample.end_s,
                round(sample.latency_ms, 3), round((sample.end_s - sample.sent_s) * 1000, 3), sample.status,
                sample.http_status, None if sample.error is None else sample.error["kind"],
                len(sample.rows), sum(row.correct is True for row in sample.rows),
                *(None if None in counts else sum(counts) for counts in tokens),
            ]
        )  # fmt: skip
    return out.getvalue()


def to_junit(report: Mapping[str, Any]) -> str:
    """A test case for each target and one for the run's validity.

    A missed target is a failure; one that could not be judged, and a void run, is an error: neither is ever green.
    """
    suite = ElementTree.Element("testsuite", name=_legal(f"heavylift {report['name']}"))
    properties = ElementTree.SubElement(suite, "properties")
    for key in ("run", "endpoint", "endpoint_config", "verdict", "samples"):
        ElementTree.SubElement(properties, "property", name=key, value=_legal(str(report[key] or "not asked")))
    _case(suite, report, "the run can judge", "error" if report["void"] else None, "; ".join(report["void"]))
    for row in report["judgements"]:
        outcome = {True: None, False: "failure", None: "error"}[row["passed"]]
        name = row["metric"] if row["percentile"] is None else f"{row['metric']} p{row['percentile']:g}"
        _case(suite, report, name, outcome, row["sentence"])
    for kind in ("failure", "error"):
        suite.set(f"{kind}s", str(len(suite.findall(f"testcase/{kind}"))))
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("time", f"{report['seconds']:.3f}")
    suite.set("timestamp", _legal(report["started_at"].removesuffix("Z")))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, report: Mapping[str, Any], name: str, outcome: str | None, said: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=_legal(f"heavylift.{report['name']}"), name=_legal(name))
    case.set("time", "0")
    if outcome is not None:
        ElementTree.SubElement(case, outcome, message=_legal(said), type=report["verdict"])
    elif said:
        ElementTree.SubElement(case, "system-out").text = _legal(said)


def to_markdown(report: Mapping[str, Any]) -> str:
    """The verdict, the targets and the table, for a pull request or a job's summary (GitHub Flavored Markdown)."""
    doubt = busy(report)
    lines = [
        f"## {_inline(report['name'])}: {report['verdict']}",
        "",
        f"{_inline(headline(report))}. Run {_code(report['run'])}, {report['started_at']}.",
        "",
        *(f"- void: {_inline(reason)}" for reason in report["void"]),
        *([f"- warning: {_inline(doubt)}"] if doubt else []),
        *([""] if report["void"] or doubt else []),
        "| Target | | Measured |",
        "|---|---|---|",
    ]
    for row in report["judgements"]:
        name = row["metric"] if row["percentile"] is None else f"{row['metric']} p{row['percentile']:g}"
        lines.append(f"| {name} | {mark(row)} | {_inline(row['sentence'])} |")
    lines += ["", _row(COLUMNS.values()), _row("---" for _ in COLUMNS), _row(map(_inline, cells(report))), ""]
    quality = ", ".join(f"{_inline(task)} {percent(share)}" for task, share in report["quality"]["by_task"].items())
    lines += [f"Quality by task: {quality or 'not measured'}.", "", f"Samples: {_code(report['samples'])}"]
    return "\n".join(lines) + "\n"


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _inline(text: str) -> str:
    """Nothing in it is markup, and it stays in its line and cell."""
    escaped = re.sub(r"([\\`*_{}\[\]<>|#~!])", r"\\\1", " ".join(_legal(text).split()))
    return escaped.replace("&", "&amp;")


def _code(text: str) -> str:
    """A code span, in which nothing but the backtick is markup."""
    return f"`{' '.join(_legal(text).split()).replace('`', chr(39))}`"


def _legal(text: str) -> str:
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
