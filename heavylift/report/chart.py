"""The geometry of a page's charts: numbers to places on a canvas of fixed size.

Not their drawing (templates/report.html.j2). Places are in SVG user units, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heavylift.benchmark.samples import Recording, Sample

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 16, 34
MOST_DOTS = 4000


@dataclass(frozen=True)
class Axis:
    """A linear scale from numbers low..high to places start..end, with round ticks."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(place, label) of four to ten round numbers."""
        step = _round_step((self.high - self.low) / 5)
        digits = max(0, -math.floor(math.log10(step)))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(self.at(count * step), f"{count * step:,.{digits}f}") for count in range(first, last + 1)]


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `rough`."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


@dataclass(frozen=True)
class Dot:
    """A request: where, which class (warmup, ok, wrong, failed), and what it says when pointed at."""

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True)
class Timeline:
    """Latency over time. `thinned` when there were too many requests to draw each; `above` are the latencies (ms) of
    the warm-up requests that are drawn at the upper edge, because they took longer than any measured one."""

    x: Axis
    y: Axis
    dots: tuple[Dot, ...]
    thinned: bool
    above: tuple[float, ...]


@dataclass(frozen=True)
class Bar:
    """One bin of the histogram: its place, size, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Histogram:
    """How many answered measured requests had which latency."""

    x: Axis
    y: Axis
    bars: tuple[Bar, ...]


def timeline(recording: Recording) -> Timeline | None:
    """Every request at its intended send; None where there is none."""
    if not recording.samples:
        return None
    seconds = max(sample.end_s for sample in recording.samples)
    slowest = max(sample.latency_ms for sample in recording.measured or recording.samples)
    x = Axis(0, max(seconds, 1e-3), LEFT, WIDTH - RIGHT)
    y = Axis(0, max(slowest * 1.1, 1e-3), HEIGHT - BOTTOM, TOP)
    drawn = _thinned(recording.samples)
    above = tuple(sample.latency_ms for sample in recording.samples if not y.holds(sample.latency_ms))
    return Timeline(x, y, tuple(_dot(sample, x, y) for sample in drawn), len(drawn) < len(recording.samples), above)


def _dot(sample: Sample, x: Axis, y: Axis) -> Dot:
    if not sample.ok:
        kind = "failed"
    elif sample.phase == "warmup":
        kind = "warmup"
    else:
        kind = "ok" if all(row.correct for row in sample.rows) else "wrong"
    why = f": {sample.error['kind']}" if sample.error is not None else ""
    title = f"request {sample.index} ({sample.phase}, {sample.status}{why}): {sample.latency_ms:.2f} ms"
    return Dot(x.at(sample.intended_s), y.at(min(sample.latency_ms, y.high)), kind, title)


def _thinned(samples: Sequence[Sample]) -> Sequence[Sample]:
    """At most MOST_DOTS: of each stretch of requests the fastest and the slowest, so that no extreme is lost."""
    if len(samples) <= MOST_DOTS:
        return samples
    size = math.ceil(len(samples) / (MOST_DOTS // 2))
    stretches = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [pick(stretch, key=lambda sample: sample.latency_ms) for stretch in stretches for pick in (min, max)]


def histogram(latencies_ms: Sequence[float]) -> Histogram | None:
    """Bins of equal, round width; None where there is nothing to count."""
    if not latencies_ms:
        return None
    low, high = min(latencies_ms), max(latencies_ms)
    bins = min(48, max(8, math.ceil(2 * math.sqrt(len(latencies_ms)))))
    step = _round_step(max((high - low) / bins, high / 1000, 1e-6))
    first, last = math.floor(low / step), math.floor(high / step)
    counts = [0] * (last - first + 1)
    for latency in latencies_ms:
        counts[min(math.floor(latency / step), last) - first] += 1
    x = Axis((first - 1) * step, (last + 2) * step, LEFT, WIDTH - RIGHT)
    y = Axis(0, max(counts) * 1.1, HEIGHT - BOTTOM, TOP)
    bars = [_bar((first + place) * step, step, count, x, y) for place, count in enumerate(counts) if count]
    return Histogram(x, y, tuple(bars))


def _bar(start: float, step: float, count: int, x: Axis, y: Axis) -> Bar:
    left, right, top = x.at(start), x.at(start + step), y.at(count)
    requests = "1 request" if count == 1 else f"{count} requests"
    title = f"{start:g} to {start + step:g} ms: {requests}"
    return Bar(left, top, round(max(right - left - 1, 0.5), 2), round(HEIGHT - BOTTOM - top, 2), title)
