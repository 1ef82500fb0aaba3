"""A report on the terminal."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

from rich.console import Console

from heavylift.benchmark.report import build_report
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.verdict import judge
from heavylift.report.export import to_markdown
from heavylift.report.page import render
from heavylift.report.table import conclusion, plain, table
from tests.benchmark_documents import recorded


def report(recording: Recording) -> dict[str, Any]:
    return build_report(recording, judge(recording), samples="x")


def test_the_plain_table_has_the_columns_of_the_flan_t5_table() -> None:
    text = plain([report(recorded([327.39] * 8)), report(recorded([None]))])

    header, rule, first, second = text.splitlines()
    for title in ("Model", "Engine", "Quantization", "Batch", "Tensor parallel", "Workers", "P50 (ms)", "P99 (ms)"):
        assert title in header
    assert set(rule) == {"-", " "}
    assert first.split() == [
        "tiny-t5",
        "native",
        "none",
        "4",
        "2",
        "1",
        *["327.39"] * 3,
        "15.27",
        "normal",
        "(100",
        "%)",
    ]
    assert second.split()[6:] == ["-", "-", "-", "0.00", "degraded", "(0", "%)"]


def test_the_rich_table_shows_the_same_cells_and_takes_no_markup_from_values() -> None:
    shown = report(recorded([10.0]))
    shown["table"]["model"] = "[red]tiny[/red]"
    console = Console(file=StringIO(), width=200)

    console.print(table([shown]))

    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, as given
    assert "[red]tiny[/red]" in text
    assert "Data quality" in text and "normal (100 %)" in text


def test_the_conclusion_says_each_target_with_its_value() -> None:
    text = conclusion(
        report(recorded([812.3] * 4, slo=[{"metric": "e2e_latency", "percentile": 90, "max_ms": 1}]))
    ).plain

    assert text.splitlines() == [
        "FAIL  tiny-t5 missed 1 of 1 targets (4 requests, 3.2 s)",
        "  missed      e2e_latency p90 is 812.3 ms, limit 1.0 ms",
    ]


def test_the_conclusion_of_a_good_run_and_of_a_void_one() -> None:
    good = conclusion(report(recorded([100.0] * 30))).plain
    void = conclusion(report(replace(recorded([100.0] * 2), samples=()))).plain

    assert good.startswith("PASS  tiny-t5 met its 3 targets (30 requests, 3.0 s)")
    assert void.splitlines()[:2] == [
        "VOID  this run cannot judge tiny-t5 (0 requests, 0.0 s)",
        "  void: no measured request was sent in 300 s, the time limit",
    ]
    assert "not judged" in void


def test_a_generator_that_was_busy_itself_is_a_warning_everywhere() -> None:
    recording = recorded([10.0] * 30)
    idle, busy = (replace(recording, run=replace(recording.run, cpu_share=share)) for share in (0.3, 0.97))
    told = [(conclusion(report(run)).plain, to_markdown(report(run)), render(report(run), run)) for run in (idle, busy)]

    sentence = "the generator used 97% of a processor: part of these times may be its own"
    assert all(sentence in text for text in told[1])
    assert not any("part of these times" in text for text in told[0])
