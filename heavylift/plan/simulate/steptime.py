"""What the simulation must know of an engine: how long one iteration takes. Not where the numbers come from."""

from __future__ import annotations

import math
from typing import Protocol

STRAIGHT = 1e-9  # relative error up to which three points lie on a line


class StepTime(Protocol):
    """Times of one copy's iterations, in seconds. `decode` must be convex in `context` for stretches to be exact."""

    def outside(self, prompt: int) -> float:
        """Seconds that a request takes beside the iterations: HTTP, the tokenizer, the pipeline's other stages."""

    def decode(self, rows: int, context: int) -> float:
        """One iteration that gives `rows` sequences, at least one, a token each; `context` cached tokens in all."""

    def prefill(self, start: int, end: int) -> float:
        """What reading tokens `start` to `end` of a prompt adds to an iteration."""


def stretch(time: StepTime, rows: int, context: int, count: int, room: float) -> tuple[int, float]:
    """Decode steps until `room` seconds are over, at most `count` ≥ 1: how many begin before, and their seconds.

    Each step lengthens `context` by `rows`. Where the time is a straight line in between, the sum is a closed form;
    else the stretch is halved, so that the answer is that of step by step.
    """
    first = time.decode(rows, context)
    if count == 1:
        return 1, first
    last = time.decode(rows, context + (count - 1) * rows)
    half = count // 2
    middle = time.decode(rows, context + half * rows)
    slope = (last - first) / (count - 1)
    if abs(first + slope * half - middle) <= STRAIGHT * middle:
        return _straight(first, slope, count, room)
    steps, seconds = stretch(time, rows, context, half, room)
    if steps < half or seconds >= room:
        return steps, seconds
    more, longer = stretch(time, rows, context + half * rows, count - half, room - seconds)
    return steps + more, seconds + longer


def _straight(first: float, slope: float, count: int, room: float) -> tuple[int, float]:
    def total(steps: int) -> float:
        return steps * first + slope * (steps * (steps - 1) / 2)

    if total(count - 1) < room:
        return count, total(count)
    low, high = 1, count - 1  # the smallest number of steps that fill the room
    guess = room / first if slope <= 0 else _root(slope / 2, first - slope / 2, room)
    near = min(max(math.ceil(guess), low), high)
    if total(near) >= room:
        high = near
        low = near - 1 if near > 1 and total(near - 1) < room else low
    else:
        low = near
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if total(middle) >= room else (middle + 1, high)
    return low, total(low)


def _root(square: float, linear: float, value: float) -> float:
    """x ≥ 0 with square · x² + linear · x = value."""
    return (math.sqrt(linear * linear + 4 * square * value) - linear) / (2 * square)
