"""Passes of one token of each row, whose kernels are called by one call from Python once their form has come often.

Not the layers: it is told how to go through them, and does so itself wherever a pass cannot be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.kernels.recording import Recording, Room, recorded
from heavylift_runtime.native.linear import is_drafting

MOST = 64
"""Forms that are kept: some kilobytes each; where PyTorch works between the kernels (on experts, and on padding), also
the rows that it works on, of every layer."""
OFTEN, REMEMBERED = 4, 1024
"""A form is kept when it comes so many times among the last forms that are not: to keep it takes some passes' time, and
of many rows of all lengths there are forms without end, of which few come again (benchmarks/forms.py)."""


class Part(Protocol):
    """What a pass's attention looks at."""

    @property
    def form(self) -> Hashable:
        """What two passes have in common that differ in numbers alone; None: this one has no equal."""

    def follow(self, other: Any) -> None:
        """Becomes another one of the same form, in the same places of memory."""


@dataclass(frozen=True)
class Kept:
    """A pass that was made, and where it lies in memory."""

    recording: Recording
    x: Tensor
    parts: tuple[Part, ...]
    y: Tensor


class Repeated:
    """Goes through layers, x (N, d) → (N, d)."""

    def __init__(self, through: Callable[..., Tensor]) -> None:
        self._through = through
        self._room = Room()
        self._kept: dict[Hashable, Kept | None] = {}  # None: a pass of that form cannot be made again
        self._met: dict[Hashable, int] = {}  # how often forms came that are not kept; the last one is the latest

    def __call__(self, x: Tensor, *parts: Any) -> Tensor:
        """`parts`: what `through` gets besides x."""
        if not kernels.usable(x) or None in (forms := tuple(part.form for part in parts)):
            return self._through(x, *parts)
        form = x.shape, is_drafting(), forms
        if form not in self._kept:
            often = self._comes_often(form)
            return self._keep(x, parts, form) if often else self._through(x, *parts)
        kept = self._kept[form] = self._kept.pop(form)
        if kept is None:
            return self._through(x, *parts)
        kept.x.copy_(x)
        for own, new in zip(kept.parts, parts, strict=True):
            own.follow(new)
        kernels.again(kept.recording)
        return kept.y.clone()

    def _comes_often(self, form: Hashable) -> bool:
        times = self._met.pop(form, 0) + 1
        if times >= OFTEN:
            return True
        if len(self._met) == REMEMBERED:
            self._met.pop(next(iter(self._met)))
        self._met[form] = times
        return False

    def _keep(self, x: Tensor, parts: tuple[Part, ...], form: Hashable) -> Tensor:
        """In place of the one that has not come for longest, where there are too many."""
        with recorded(self._room) as recording:
            y = self._through(x, *parts)
        if len(self._kept) == MOST:
            self._kept.pop(next(iter(self._kept)))
        self._kept[form] = Kept(recording, x, parts, y) if recording.whole else None
        return y.clone()
