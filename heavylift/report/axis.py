"""The scales of a chart: numbers to places on a canvas of fixed size, with round ticks.

Not what is drawn along them. Places are in SVG user units, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 22, 42
WIDE = 20.0  # numbers that lie further apart than this factor are told apart on a logarithmic scale only


class Scale(Protocol):
    """What a chart needs of an axis."""

    def at(self, value: float) -> float:
        """The place of a number."""
        ...

    def holds(self, value: float) -> bool:
        """Whether the number lies on the axis."""
        ...

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(place, label) of round numbers."""
        ...


@dataclass(frozen=True)
class Axis:
    """A linear scale from numbers low..high to places start..end."""

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
        """Four to ten."""
        step = round_step((self.high - self.low) / 5)
        digits = max(0, -math.floor(math.log10(step)))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(self.at(count * step), f"{count * step:,.{digits}f}") for count in range(first, last + 1)]


@dataclass(frozen=True)
class LogAxis:
    """A logarithmic scale from positive numbers low..high to places start..end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """1, 2 and 5 times the powers of ten, or the powers alone over more than three decades."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1,) if self.high / self.low > 1000 else (1, 2, 5)
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        return [(self.at(value), f"{value:,.10g}") for value in values if self.holds(value)]


@dataclass(frozen=True)
class TailAxis:
    """The share of requests that were slower, 1 to `least`, on a logarithmic scale; its ticks are the percentiles."""

    least: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return LogAxis(self.least, 1.0, self.end, self.start).at(max(value, self.least))

    def holds(self, value: float) -> bool:
        return self.least <= value <= 1

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """p0, p50, p90, p99 and so on, as far as the axis goes."""
        named = [(1.0, "p0"), (0.5, "p50"), (0.1, "p90"), (0.01, "p99"), (0.001, "p99.9"), (0.0001, "p99.99")]
        return [(self.at(share), name) for share, name in named if self.holds(share)]


def fitting(values: Sequence[float], start: float, end: float) -> Axis | LogAxis:
    """An axis that holds all of these positive numbers: linear from 0, or logarithmic where they lie far apart."""
    low, high = max(min(values), 1e-3), max(*values, 2e-3)
    if high / low > WIDE:
        return LogAxis(low / 1.1, high * 1.1, start, end)
    return Axis(0, high * 1.1, start, end)


def round_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `rough`."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def stairs(points: Sequence[tuple[float, float]]) -> str:
    """An SVG path that goes from place to place, first across, then up or down."""
    (x, y), *rest = points
    return f"M{x:g} {y:g}" + "".join(f"H{x:g}V{y:g}" for x, y in rest)
