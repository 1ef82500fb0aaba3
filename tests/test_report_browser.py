"""The pages in a real browser, offline: on a phone and on a desk, in the light and in the dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from heavylift.benchmark.samples import Recording
from heavylift.report.page import render
from tests.browser import CHROMIUM, Page, browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a real browser: Chromium (Debian: apt install chromium)"),
]
GOLDEN = Path(__file__).parent / "golden" / "benchmark" / "killed"
STEPS = [
    {"rate": rate, "requests_per_second": rate * 0.98, "verdict": verdict,
     "latency_ms": {"p50": 40.0 * rate, "p90": 90.0 * rate, "p99": 160.0 * rate}}
    for rate, verdict in ((1.0, "PASS"), (2.0, "PASS"), (4.0, "FAIL"))
]  # fmt: skip
LUMINANCE = """
(colour => { const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b })
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, Path]]:
    file = tmp_path_factory.mktemp("page") / "report.html"
    report = json.loads((GOLDEN / "report.json").read_text())
    file.write_text(render(report, Recording.load(GOLDEN / "samples.jsonl.gz"), STEPS), encoding="utf-8")
    with browser() as shown:
        yield shown, file


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_readable(page: tuple[Page, Path], width: int, dark: bool) -> None:
    shown, file = page
    shown.problems.clear()

    shown.show(file, width=width, dark=dark)

    assert shown.problems == []
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    smallest = shown.evaluate("""
        Math.min(...[...document.querySelectorAll("svg text")].map(text =>
          parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getBoundingClientRect().width / 640))""")
    assert smallest >= 8, "letters of a chart, in pixels"
    paper, ink = (
        shown.evaluate(f"{LUMINANCE}(getComputedStyle(document.body).{what})") for what in ("backgroundColor", "color")
    )
    assert (paper < ink) == dark
    assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) >= 7, "WCAG 2.2's enhanced contrast"


def test_nothing_is_drawn_outside_its_chart(page: tuple[Page, Path]) -> None:
    shown, file = page

    shown.show(file, width=1280)

    charts, outside = shown.evaluate("""
        (() => { const charts = [...document.querySelectorAll("svg[role=img]")], outside = [];
          for (const chart of charts) { const box = chart.getBoundingClientRect();
            for (const mark of chart.querySelectorAll("circle, rect, path, line, text")) {
              const one = mark.getBoundingClientRect();
              if (one.left < box.left - 1 || one.right > box.right + 1 ||
                  one.top < box.top - 1 || one.bottom > box.bottom + 1)
                outside.push(mark.outerHTML.slice(0, 120)); } }
          return [charts.length, outside] })()""")
    assert charts == 5
    assert outside == []


@pytest.mark.parametrize("width", [360, 1280])
def test_labels_of_an_axis_do_not_overlap(page: tuple[Page, Path], width: int) -> None:
    shown, file = page

    shown.show(file, width=width)

    overlapping = shown.evaluate("""
        (() => { const found = [];
          for (const chart of document.querySelectorAll("svg[role=img]")) {
            const boxes = [...chart.querySelectorAll("text.tick")]
              .map(text => [text.textContent, text.getBoundingClientRect()]);
            boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
              const across = p.left < q.right && q.left < p.right, down = p.top + 2 < q.bottom && q.top + 2 < p.bottom;
              if (across && down) found.push(`${a} / ${b}`); })); }
          return found })()""")
    assert overlapping == []


def test_on_a_phone_the_verdict_of_each_target_is_seen_without_scrolling(page: tuple[Page, Path]) -> None:
    shown, file = page

    shown.show(file, width=360)

    rows = shown.evaluate("""
        [...document.querySelectorAll("table.rows tbody tr")].map(row => {
          const [name, mark] = [".name", ".mark"].map(each => row.querySelector(each).getBoundingClientRect());
          return [row.parentElement.parentElement.scrollWidth <= row.closest(".scroll").clientWidth,
                  mark.right <= 360, name.right <= mark.left + 1] })""")
    assert rows and all(all(row) for row in rows), rows


def test_a_printed_page_is_dark_on_white_whatever_the_reader_has_chosen(page: tuple[Page, Path]) -> None:
    shown, file = page
    shown.show(file, width=1280, dark=True)
    dark = {"name": "prefers-color-scheme", "value": "dark"}

    shown.call("Emulation.setEmulatedMedia", media="print", features=[dark])

    paper, ink = (
        shown.evaluate(f"{LUMINANCE}(getComputedStyle(document.body).{what})") for what in ("backgroundColor", "color")
    )
    assert paper > 0.95 and ink < 0.05
    shown.call("Emulation.setEmulatedMedia", media="", features=[])
