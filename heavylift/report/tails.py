"""The slow tails of several runs in one PNG: for each latency the share of a run's requests that were slower.

Not one run's picture (picture.py), and no verdict.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from PIL import Image

from heavylift.report import distribution
from heavylift.report.axis import HEIGHT, LEFT, WIDTH
from heavylift.report.picture import ACCENT, CARD, INK, LINE, PAPER, SCALE, SOFT, Canvas, axes, stairs

COLOURS = (
    *(ACCENT, "#bf2f2f", "#1c7c4a", "#9a6a00", "#7a3fa8", "#1a8a99", "#5a5f69", "#d0578a"),
    *("#e08a1e", "#7fa32b", "#111318", "#6fb1e8"),
)
HEAD, ROW = 64, 18


def to_png(title: str, below: str, series: Mapping[str, Sequence[float]]) -> bytes:
    """`series`: a run's name and its latencies in ms, infinite for a failed request; at most len(COLOURS) runs."""
    assert 0 < len(series) <= len(COLOURS), "every run has a colour of its own"
    chart = distribution.tail(series)
    assert chart is not None, "a run without one answered request is not drawn"
    tall = HEAD + HEIGHT + 24 + ROW * len(series) + 16
    canvas = Canvas(Image.new("RGB", ((WIDTH + 64) * SCALE, tall * SCALE), PAPER))
    canvas.text(24, 30, title, 17, INK)
    canvas.text(24, 50, below, 10, SOFT)
    canvas.box(16, HEAD, WIDTH + 32, tall - HEAD - 12, CARD, LINE)
    inner = canvas.moved(32, HEAD + 8)
    axes(inner, chart.x, chart.y)
    for (name, path), colour in zip(chart.paths, COLOURS, strict=False):
        stairs(inner, path, colour)
        row = HEIGHT + 16 + ROW * list(series).index(name)
        inner.box(LEFT, row - 9, 18, 8, colour)
        inner.text(LEFT + 26, row, name, 11, INK)
    out = io.BytesIO()
    canvas.image.save(out, "PNG", optimize=True)
    return out.getvalue()
