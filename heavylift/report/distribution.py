"""How latencies are distributed: the geometry of a histogram, and of the tail on a logarithmic scale.

Not their drawing (templates/report.html.j2, picture.py). A failed request is infinitely slow, so a tail with failures
never reaches the top.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heavylift.report.axis import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    LogAxis,
    TailAxis,
    fitting,
    round_step,
    stairs,
)

MOST_STEPS = 400


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


@dataclass(frozen=True)
class Tail:
    """For each named series the share of its requests that were slower than each latency, as a path of stairs."""

    x: Axis | LogAxis
    y: TailAxis
    paths: tuple[tuple[str, str], ...]


def histogram(latencies_ms: Sequence[float]) -> Histogram | None:
    """Bins of equal, round width; None where there is nothing to count."""
    if not latencies_ms:
        return None
    low, high = min(latencies_ms), max(latencies_ms)
    bins = min(48, max(8, math.ceil(2 * math.sqrt(len(latencies_ms)))))
    step = round_step(max((high - low) / bins, high / 1000, 1e-6))
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


def tail(series: Mapping[str, Sequence[float]]) -> Tail | None:
    """Series of latencies in ms, infinite for a failed request; None where no request has a latency."""
    finite = {name: sorted(value for value in values if math.isfinite(value)) for name, values in series.items()}
    known = [value for values in finite.values() for value in values]
    if not known:
        return None
    x = fitting(known, LEFT, WIDTH - RIGHT)
    y = TailAxis(min(0.05, 0.5 / max(map(len, series.values()))), HEIGHT - BOTTOM, TOP)
    paths = [(name, _path(finite[name], len(series[name]), x, y)) for name in series if finite[name]]
    return Tail(x, y, tuple(paths))


def _path(ordered: Sequence[float], total: int, x: Axis | LogAxis, y: TailAxis) -> str:
    """After the request of each drawn rank, the share of the `total` that was slower."""
    points = [(x.at(max(x.low, ordered[0])), y.at(1.0))]
    points += [(x.at(max(x.low, ordered[rank])), y.at((total - rank - 1) / total)) for rank in ranks(len(ordered))]
    return stairs(points)


def ranks(count: int) -> list[int]:
    """At most about MOST_STEPS of the ranks 0..count-1, close together at the slow end, where each one counts."""
    if count <= MOST_STEPS:
        return list(range(count))
    from_end = {round(count ** (step / (MOST_STEPS - 1))) for step in range(MOST_STEPS)}
    return sorted(count - place for place in from_end)
