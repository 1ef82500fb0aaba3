"""Passes of one token of each row, whose kernels are called by one call from Python after the first of their form.

Not the layers: it is told how to go through them, and does so itself wherever a pass cannot be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.kernels.recording import Recording, Room, recorded

MOST = 64
"""Forms that are kept: some kilobytes each."""


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
        self._through, self._able = through, True
        self._room = Room()
        self._kept: dict[Hashable, Kept] = {}

    def __call__(self, x: Tensor, *parts: Any) -> Tensor:
        """`parts`: what `through` gets besides x."""
        if not self._able or not kernels.usable(x) or None in (forms := tuple(part.form for part in parts)):
            return self._through(x, *parts)
        kept = self._kept.get((x.shape, forms))
        if kept is None:
            return self._first(x, parts, forms)
        kept.x.copy_(x)
        for own, new in zip(kept.parts, parts, strict=True):
            own.follow(new)
        kernels.again(kept.recording)
        return kept.y.clone()

    def _first(self, x: Tensor, parts: tuple[Part, ...], forms: tuple[Hashable, ...]) -> Tensor:
        with recorded(self._room) as recording:
            y = self._through(x, *parts)
        self._able = recording.whole
        if recording.whole:
            if len(self._kept) == MOST:
                self._kept.clear()
            self._kept[x.shape, forms] = Kept(recording, x, parts, y)
        return y.clone()
