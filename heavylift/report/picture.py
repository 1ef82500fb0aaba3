"""A run as one PNG: the verdict, the figures, and three charts; for a chat, a wiki, a slide.

Not the page: what it has in a table is left out. Drawn by Pillow with the font that it brings, so no browser and no
installed font is needed; the charts' geometry is the page's.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from heavylift.benchmark.samples import Recording
from heavylift.benchmark.verdict import percent
from heavylift.report import distribution
from heavylift.report.axis import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale
from heavylift.report.table import headline
from heavylift.report.timeline import timeline

SCALE = 2
PAPER, CARD, INK, SOFT, LINE, ACCENT, WARM = "#f7f6f3", "#ffffff", "#1d1f23", "#666a73", "#e4e2dc", "#2f62c9", "#a9adb6"
COLOURS = {"PASS": "#1c7c4a", "FAIL": "#bf2f2f", "VOID": "#9a6a00", "INCONCLUSIVE": "#9a6a00"}
DOTS = {"ok": ACCENT, "warmup": WARM, "wrong": COLOURS["VOID"], "failed": COLOURS["FAIL"]}
HEAD, GAP = 150, 16
PATH = re.compile(r"([MHV])([-\d.]+)(?: ([-\d.]+))?")


def to_png(report: Mapping[str, Any], recording: Recording) -> bytes:
    """The picture's bytes; the same run gives the same bytes with the same Pillow."""
    answered = [sample.latency_ms for sample in recording.measured if sample.ok]
    failed = [math.inf] * (len(recording.measured) - len(answered))
    charts = [
        ("Latency of each request over time, ms by s", timeline(recording)),
        ("The slow tail, percentile by ms", distribution.tail({"latency": answered + failed})),
        ("Distribution of the measured latencies, requests by ms", distribution.histogram(answered)),
    ]
    drawn = [(title, chart) for title, chart in charts if chart is not None]
    height = HEAD + len(drawn) * (HEIGHT + 40 + GAP) + GAP
    canvas = Canvas(Image.new("RGB", ((WIDTH + 80) * SCALE, height * SCALE), PAPER))
    _head(canvas, report)
    limits = [row["limit"] for row in report["judgements"] if row["metric"] == "e2e_latency"]
    for place, (title, chart) in enumerate(drawn):
        _card(canvas.moved(24, HEAD + place * (HEIGHT + 40 + GAP)), title, chart, limits)
    out = io.BytesIO()
    canvas.image.save(out, "PNG", optimize=True)
    return out.getvalue()


class Canvas:
    """Draws in the charts' units, from an origin of its own."""

    def __init__(self, image: Image.Image, left: float = 0, top: float = 0) -> None:
        self.image, self._draw, self._left, self._top = image, ImageDraw.Draw(image), left, top

    def moved(self, left: float, top: float) -> Canvas:
        return Canvas(self.image, self._left + left, self._top + top)

    def text(self, x: float, y: float, text: str, size: float, colour: str, anchor: str = "ls") -> None:
        self._draw.text(self._at(x, y), text, fill=colour, font=ImageFont.load_default(size * SCALE), anchor=anchor)

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> None:
        self._draw.line([*self._at(x1, y1), *self._at(x2, y2)], fill=colour, width=round(width * SCALE))

    def box(self, x: float, y: float, width: float, height: float, colour: str, edge: str | None = None) -> None:
        self._draw.rectangle([*self._at(x, y), *self._at(x + width, y + height)], fill=colour, outline=edge)

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        self._draw.ellipse([*self._at(x - radius, y - radius), *self._at(x + radius, y + radius)], fill=colour)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (self._left + x) * SCALE, (self._top + y) * SCALE


def _head(canvas: Canvas, report: Mapping[str, Any]) -> None:
    verdict, latency = report["verdict"], report["latency_ms"]
    canvas.text(24, 44, report["name"], 26, INK)
    canvas.text(WIDTH + 56, 44, verdict, 24, COLOURS[verdict], "rs")
    canvas.text(24, 66, f"{headline(report)}. {report['started_at']}, {report['run']}", 11, SOFT)
    figures = [(f"{name} latency", _number(latency[name.lower()], " ms")) for name in ("P50", "P90", "P99")]
    figures.append(("tokens/s", _number(report["tokens_per_second"], "")))
    figures.append(("exact answers", _share(report["quality"]["overall"])))
    figures.append(("requests failed", _share(report["errors"]["rate"])))
    for place, (name, value) in enumerate(figures):
        canvas.text(24 + place * 114, 106, value, 15, INK)
        canvas.text(24 + place * 114, 124, name, 10, SOFT)


def _card(canvas: Canvas, title: str, chart: Any, limits: list[float]) -> None:
    canvas.box(0, 0, WIDTH + 32, HEIGHT + 40, CARD, LINE)
    canvas.text(16, 24, title, 12, INK)
    inner = canvas.moved(16, 32)
    axes(inner, chart.x, chart.y)
    match chart:
        case distribution.Histogram(bars=bars):
            for bar in bars:
                inner.box(bar.x, bar.y, bar.width, bar.height, ACCENT)
        case distribution.Tail(paths=paths):
            for _, path in paths:
                stairs(inner, path)
        case _:
            for dot in chart.dots:
                inner.dot(dot.x, dot.y, 4 if dot.kind in ("failed", "wrong") else 2.4, DOTS[dot.kind])
    timed = hasattr(chart, "dots")
    for limit in limits:
        if timed and chart.y.holds(limit):
            inner.line(LEFT, chart.y.at(limit), WIDTH - RIGHT, chart.y.at(limit), COLOURS["FAIL"])
        elif not timed and chart.x.holds(limit):
            inner.line(chart.x.at(limit), TOP, chart.x.at(limit), HEIGHT - BOTTOM, COLOURS["FAIL"])


def axes(canvas: Canvas, x: Scale, y: Scale) -> None:
    """The lines and numbers of both."""
    for place, label in y.ticks:
        canvas.line(LEFT, place, WIDTH - RIGHT, place, LINE)
        canvas.text(LEFT - 8, place, label, 10, SOFT, "rm")
    for place, label in x.ticks:
        canvas.text(place, HEIGHT - BOTTOM + 18, label, 10, SOFT, "ms")
    canvas.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, SOFT)


def stairs(canvas: Canvas, path: str, colour: str = ACCENT) -> None:
    """A path of M, H and V."""
    x = y = 0.0
    for step, first, second in PATH.findall(path):
        before = x, y
        x, y = (float(first), float(second)) if step == "M" else (float(first), y) if step == "H" else (x, float(first))
        if step != "M":
            canvas.line(*before, x, y, colour, 1.8)


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:,.1f}{unit}"


def _share(value: float | None) -> str:
    return "-" if value is None else percent(value)
