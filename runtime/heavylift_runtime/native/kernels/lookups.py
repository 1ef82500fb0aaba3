"""What kernels look up by themselves as they are called: angles and biases, by the positions of rows.

Not the calls (calls.py): a call that is kept is made again with what is here then.
"""

from __future__ import annotations

import ctypes

from torch import Tensor

from heavylift_runtime.native.kernels import arguments


class Angles:
    """Angles by position, cosines and signed sines (T, 1, R), and the position of each row, (N,) int64."""

    def __init__(self, cosines: Tensor, sines: Tensor, positions: Tensor) -> None:
        assert cosines.is_contiguous() and sines.is_contiguous() and positions.is_contiguous()
        self.cosines, self.sines, self.positions = cosines, sines, positions
        self._fields: arguments.Angles | None = None
        self._rows: tuple[Tensor, Tensor] | None = None

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Each row's, (N, 1, R)"""
        if self._rows is None:
            self._rows = self.cosines.index_select(0, self.positions), self.sines.index_select(0, self.positions)
        return self._rows

    @property
    def at(self) -> int:
        """Where a kernel finds them; a call that is kept looks at what is here then."""
        if self._fields is None:
            self._fields = arguments.Angles(*(each.data_ptr() for each in (self.cosines, self.sines, self.positions)))
        return ctypes.addressof(self._fields)

    def become(self, other: Angles) -> None:
        """Other angles, by the positions that are in this one's memory."""
        self.cosines, self.sines, fields = other.cosines, other.sines, self._fields
        if fields is not None:
            fields.cosines, fields.sines = self.cosines.data_ptr(), self.sines.data_ptr()


class Seen:
    """What queries see: a bias on each place, (N, 1 or G, T); a call that is kept looks at what is here then."""

    def __init__(self, bias: Tensor) -> None:
        self._bias, self.span = bias, bias.shape[-1]
        self._fields: arguments.Seen | None = None
        self._other: Seen | None = None

    @property
    def bias(self) -> Tensor:
        """All of it."""
        return self._bias

    @property
    def at(self) -> int:
        """Where a kernel finds it."""
        if self._fields is None:
            self._fields = self.fields()
        return ctypes.addressof(self._fields)

    def fields(self) -> arguments.Seen:
        """As a kernel is told."""
        pitch, step, side = self._bias.stride()
        assert side == 1
        return arguments.Seen(self._bias.data_ptr(), None, self.span, pitch, step if self._bias.shape[1] > 1 else 0)

    def become(self, other: Seen) -> None:
        """Something else is seen, by as many; from the positions that are in this one's memory."""
        self._other, self.span = other, other.span  # whose tensors are looked at from now on
        if self._fields is not None:
            fields = other.fields()
            fields.positions = self._fields.positions
            ctypes.pointer(self._fields)[0] = fields
