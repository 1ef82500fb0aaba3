"""A plan as one PNG: its figures, the bars of memory, the fronts of alternatives; for a chat, a review, a slide.

Not the page: what it has in tables is left out. The geometry is the page's; the font is Pillow's own.
"""

from __future__ import annotations

import io

from PIL import Image, ImageFont

from heavylift.plan.plan import Plan
from heavylift.plan.show import sized
from heavylift.report import plan_chart
from heavylift.report.axis import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH
from heavylift.report.picture import ACCENT, CARD, COLOURS, GAP, INK, LINE, PAPER, SCALE, SOFT, WARM, Canvas
from heavylift.report.plan_page import figures_of

HEAD = 132
PARTS = ("#2f62c9", "#7aa5ff", "#1c7c4a", "#c98a2f", "#8a5bb0", "#a9adb6", "#b8574f", "#3f8f97")
"""Colours of a bar's parts, in the order of the ledger; the same as .part0 … in the page's style."""


def to_png(plan: Plan) -> bytes:
    """The picture's bytes; the same plan gives the same bytes with the same Pillow."""
    bars, fronts = plan_chart.bars(plan), plan_chart.fronts(plan)
    tall = len(bars) * plan_chart.BAR_AREA + 64
    height = HEAD + tall + GAP + len(fronts) * (HEIGHT + 40 + GAP)
    canvas = Canvas(Image.new("RGB", ((WIDTH + 80) * SCALE, height * SCALE), PAPER))
    _head(canvas, plan)
    card = canvas.moved(24, HEAD)
    card.box(0, 0, WIDTH + 32, tall, CARD, LINE)
    card.text(16, 24, "Memory", 12, INK)
    for place, bar in enumerate(bars):
        _bar(card.moved(16, 36 + place * plan_chart.BAR_AREA), bar)
    for place, front in enumerate(fronts):
        _front(canvas.moved(24, HEAD + tall + GAP + place * (HEIGHT + 40 + GAP)), front)
    out = io.BytesIO()
    canvas.image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _head(canvas: Canvas, plan: Plan) -> None:
    canvas.text(24, 44, plan.name, 26, INK)
    engine = f"{plan.engine} {plan.dtype}, degree {plan.tensor_parallel_degree}, {sized(plan.model.bytes)}"
    canvas.text(WIDTH + 56, 44, engine, 11, SOFT, "rs")
    calibrated = plan.performance is None or plan.performance.calibrated
    if plan.performance is not None:
        canvas.text(24, 66, _ascii(plan.performance.calibration)[:110], 11, SOFT if calibrated else COLOURS["VOID"])
    left = 24.0
    for value, name in figures_of(plan):
        canvas.text(left, 98, _ascii(value), 14, INK)
        canvas.text(left, 115, _ascii(name), 10, SOFT)
        left += max(98.0, 18 + ImageFont.load_default(14).getlength(_ascii(value)))


def _bar(canvas: Canvas, bar: plan_chart.Bar) -> None:
    canvas.text(LEFT, 14, _ascii(bar.title), 11, INK)
    bottom = plan_chart.BAR_TOP + plan_chart.BAR_HEIGHT
    canvas.box(LEFT, plan_chart.BAR_TOP, bar.limit - LEFT, plan_chart.BAR_HEIGHT, PAPER)
    for piece in bar.pieces:
        if piece.width > 0:
            canvas.box(piece.x, plan_chart.BAR_TOP, piece.width, plan_chart.BAR_HEIGHT, PARTS[piece.kind])
    colour = SOFT if bar.fits else COLOURS["FAIL"]
    canvas.line(bar.limit, plan_chart.BAR_TOP - 5, bar.limit, bottom + 5, colour, 2)
    for place, label in bar.axis.ticks:
        canvas.text(place, bottom + 14, label, 9, SOFT, "ms")
    left, line = float(LEFT), bottom + 20
    for piece in bar.pieces:
        name = _ascii(f"{piece.name} {piece.size}")
        width = 24 + ImageFont.load_default(9).getlength(name)
        if left + width > WIDTH:
            left, line = float(LEFT), line + 13
        canvas.box(left, line, 7, 7, PARTS[piece.kind])
        canvas.text(left + 11, line + 7, name, 9, SOFT)
        left += width


def _front(canvas: Canvas, front: plan_chart.Front) -> None:
    canvas.box(0, 0, WIDTH + 32, HEIGHT + 40, CARD, LINE)
    canvas.text(16, 24, f"Alternatives: P90 of the {front.what} in ms, by US dollars an hour", 12, INK)
    inner = canvas.moved(16, 32)
    for place, label in front.y.ticks:
        inner.line(LEFT, place, WIDTH - RIGHT, place, LINE)
        inner.text(LEFT - 8, place, label, 10, SOFT, "rm")
    for place, label in front.x.ticks:
        inner.text(place, HEIGHT - BOTTOM + 18, label, 10, SOFT, "ms")
    inner.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, SOFT)
    for dot in front.dots:
        inner.dot(
            dot.x, dot.y, 6 if dot.chosen else 3.4, COLOURS["PASS"] if dot.chosen else ACCENT if dot.ready else WARM
        )


def _ascii(text: str) -> str:
    """Pillow's own font has Latin letters and the middle dot, but no other signs."""
    return "".join(sign if sign.isascii() or sign in "·…" else "?" for sign in text)
