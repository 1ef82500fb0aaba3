"""Latency over time: the geometry of one dot for each request, of the phases behind them, and of throughput.

Not their drawing (templates/report.html.j2, picture.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from heavylift.benchmark.samples import Recording, Sample
from heavylift.report.axis import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis

MOST_DOTS = 4000
SLICES = 60
WAITED_MS = 1.0  # a request that waited longer before it was sent shows it


@dataclass(frozen=True)
class Dot:
    """A request: where, which class (warmup, ok, wrong, failed), and what it says when pointed at.

    `service` is the place of its service time (end minus actual send) where it was sent late, else None: the stem
    between the two is the time for which it waited to be sent.
    """

    x: float
    y: float
    kind: str
    title: str
    service: float | None


@dataclass(frozen=True)
class Band:
    """A phase of the run that is not measured: its name, where it begins and how wide it is."""

    phase: str
    x: float
    width: float


@dataclass(frozen=True)
class Timeline:
    """`thinned` when there were too many requests to draw each; `above` are the latencies (ms) of the requests that
    are drawn at the upper edge, because they took longer than any measured one; `waited` counts those sent late."""

    x: Axis
    y: Axis
    dots: tuple[Dot, ...]
    bands: tuple[Band, ...]
    thinned: bool
    above: tuple[float, ...]
    waited: int


@dataclass(frozen=True)
class Throughput:
    """Answered requests per second in slices of `slice_s` seconds: a path of steps."""

    x: Axis
    y: Axis
    path: str
    slice_s: float


def timeline(recording: Recording) -> Timeline | None:
    """Every request at its intended send; None where there is none."""
    if not recording.samples:
        return None
    slowest = max(sample.latency_ms for sample in recording.measured or recording.samples)
    x, y = _seconds(recording), Axis(0, max(slowest * 1.1, 1e-3), HEIGHT - BOTTOM, TOP)
    drawn = _thinned(recording.samples)
    return Timeline(
        x,
        y,
        dots=tuple(_dot(sample, x, y) for sample in drawn),
        bands=tuple(_bands(recording.samples, x)),
        thinned=len(drawn) < len(recording.samples),
        above=tuple(sample.latency_ms for sample in recording.samples if not y.holds(sample.latency_ms)),
        waited=sum(_wait_ms(sample) > WAITED_MS for sample in recording.measured),
    )


def throughput(recording: Recording) -> Throughput | None:
    """Counted at the end of each answered request; None for a run that is too short to slice."""
    ends = [sample.end_s for sample in recording.samples if sample.ok]
    if len(ends) < 8 or max(ends) <= 0:
        return None
    x = _seconds(recording)
    count = min(SLICES, max(4, len(ends) // 4))
    width = x.high / count
    slices = [0] * count
    for end in ends:
        slices[min(int(end / width), count - 1)] += 1
    rates = [slice / width for slice in slices]
    y = Axis(0, max(rates) * 1.15, HEIGHT - BOTTOM, TOP)
    steps = [f"V{y.at(rate):g}H{x.at((place + 1) * width):g}" for place, rate in enumerate(rates)]
    return Throughput(x, y, f"M{LEFT} {y.start:g}{''.join(steps)}", width)


def _seconds(recording: Recording) -> Axis:
    return Axis(0, max(max(sample.end_s for sample in recording.samples), 1e-3), LEFT, WIDTH - RIGHT)


def _wait_ms(sample: Sample) -> float:
    return (sample.sent_s - sample.intended_s) * 1000


def _bands(samples: Sequence[Sample], x: Axis) -> list[Band]:
    """From the first intended send of each phase but `measure` to the first of the next."""
    firsts: list[tuple[str, float]] = []
    for sample in samples:
        if not firsts or firsts[-1][0] != sample.phase:
            firsts.append((sample.phase, sample.intended_s))
    ends = [start for _, start in firsts[1:]] + [x.high]
    return [
        Band(phase, x.at(start), round(x.at(end) - x.at(start), 2))
        for (phase, start), end in zip(firsts, ends, strict=True)
        if phase != "measure"
    ]


def _dot(sample: Sample, x: Axis, y: Axis) -> Dot:
    if not sample.ok:
        kind = "failed"
    elif sample.phase != "measure":
        kind = "warmup"
    else:
        kind = "wrong" if any(row.correct is False for row in sample.rows) else "ok"
    why = f": {sample.error['kind']}" if sample.error is not None else ""
    wait, service = _wait_ms(sample), None
    title = f"request {sample.index} ({sample.phase}, {sample.status}{why}): {sample.latency_ms:.2f} ms"
    if wait > WAITED_MS:
        service = y.at(min(sample.latency_ms - wait, y.high))
        title += f", of which it waited {wait:.2f} ms to be sent"
    return Dot(x.at(sample.intended_s), y.at(min(sample.latency_ms, y.high)), kind, title, service)


def _thinned(samples: Sequence[Sample]) -> Sequence[Sample]:
    """At most MOST_DOTS: of each stretch of requests the fastest and the slowest, so that no extreme is lost."""
    if len(samples) <= MOST_DOTS:
        return samples
    size = math.ceil(len(samples) / (MOST_DOTS // 2))
    stretches = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [pick(stretch, key=lambda sample: sample.latency_ms) for stretch in stretches for pick in (min, max)]
