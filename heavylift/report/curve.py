"""Latency against throughput: the geometry of one point for each rate that was tried.

Not the trying (heavylift/tune/capacity.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift.report.axis import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, LogAxis, fitting

POINTS = ("p50", "p90", "p99")
APART = 18.0
"""Between the names at the lines' ends: a phone's letters are as high."""


@dataclass(frozen=True)
class Point:
    """A rate that was tried: its place, its verdict as a class, and what it says when pointed at."""

    x: float
    y: float
    verdict: str
    title: str


@dataclass(frozen=True)
class Curve:
    """`lines` has a path for each percentile, and where its name stands; `points` has those of all of them; `x` is
    answered requests per second."""

    x: Axis
    y: Axis | LogAxis
    lines: tuple[tuple[str, str, float, float], ...]
    points: tuple[Point, ...]


def curve(steps: Sequence[Mapping[str, Any]]) -> Curve | None:
    """Steps are the `steps` of `heavylift.capacity/1`; None unless at least two of them have latencies."""
    known = [step for step in steps if step["latency_ms"]["p99"] is not None and step["requests_per_second"]]
    if len(known) < 2:
        return None
    known.sort(key=lambda step: step["requests_per_second"])
    fastest = max(step["requests_per_second"] for step in known)
    x = Axis(0, fastest * 1.12, LEFT, WIDTH - RIGHT)
    y = fitting([step["latency_ms"][name] for step in known for name in POINTS], HEIGHT - BOTTOM, TOP)
    lines, points = [], []
    for name in POINTS:
        places = [(x.at(step["requests_per_second"]), y.at(step["latency_ms"][name])) for step in known]
        lines.append((name, "M" + "L".join(f"{left:g} {top:g}" for left, top in places), *places[-1]))
        for (left, top), step in zip(places, known, strict=True):
            said = (
                f"{step['rate']:g}/s asked, {step['requests_per_second']:.2f}/s answered: "
                f"{name} {step['latency_ms'][name]:.1f} ms ({step['verdict']})"
            )
            points.append(Point(left, top, step["verdict"], said))
    return Curve(x, y, tuple(_apart(lines)), tuple(points))


def _apart(lines: Sequence[tuple[str, str, float, float]]) -> Iterator[tuple[str, str, float, float]]:
    """The lines from top to bottom, their names no nearer to each other than APART."""
    above = -APART
    for name, path, x, y in sorted(lines, key=lambda line: line[3]):
        above = max(y, above + APART)
        yield name, path, x, above
