"""Calls of kernels in a row, kept, so that one call from Python makes them all again.

Not a compiler: the same kernels on the same places in memory, as a CUDA graph would have them. While a row is kept,
any other work of PyTorch's on tensors' numbers spoils it, for that would not be done again.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from heavylift_runtime.native.kernels.arguments import Call

LINE = 64
"""Bytes of a line of the processor's caches."""


class Room:
    """Memory for what passes between kernels; a block is free again when no tensor lies in it."""

    def __init__(self) -> None:
        self._blocks: list[tuple[bytearray, int]] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor with no numbers yet."""
        count = prod(shape)
        block, offset = self._free(count * dtype.itemsize)
        return torch.frombuffer(block, dtype=dtype, count=count, offset=offset).view(shape)

    def _free(self, size: int) -> tuple[bytearray, int]:
        for block, offset in self._blocks:
            # three: in the list's pair, here, and as the argument; a fourth is that of a tensor
            if sys.getrefcount(block) == 3 and len(block) - LINE >= size:
                return block, offset
        block = bytearray(size + LINE)
        offset = -ctypes.addressof(ctypes.c_char.from_buffer(block)) % LINE
        self._blocks.append((block, offset))
        return block, offset


class Recording:
    """What one pass did: rows of kernels' calls, and work that is not theirs between them."""

    def __init__(self, room: Room) -> None:
        self.room, self.whole, self.watched = room, True, True
        self._done: list[tuple[Any, ctypes.Structure] | Callable[[], object]] = []
        self._rows: list[ctypes.Array[Call] | Callable[[], object]] = []

    def add(self, kernel: Any, arguments: ctypes.Structure) -> None:
        """A kernel was called."""
        self._done.append((kernel, arguments))

    def between(self, work: Callable[[], object]) -> None:
        """Does something that is done again each time; kernels that it calls are a part of it."""
        self.watched = False
        token = _current.set(None)
        try:
            work()
        finally:
            _current.reset(token)
        self.watched = True
        self._done.append(work)

    def again(self, run: Any) -> bool:
        """Does all of it, calls by rows.c's `run`; whether there was memory for each."""
        if not self._rows:
            self._rows = list(_rows(self._done))
        for row in self._rows:
            if not isinstance(row, ctypes.Array):
                row()
            elif run(row, len(row)) < len(row):
                return False
        return True


def _rows(
    done: Iterable[tuple[Any, ctypes.Structure] | Callable[[], object]],
) -> Iterator[ctypes.Array[Call] | Callable[[], object]]:
    """Calls between the same two pieces of other work become one row."""
    calls: list[Call] = []
    for each in [*done, None]:
        if isinstance(each, tuple):
            kernel, arguments = each
            calls.append(Call(ctypes.cast(kernel, ctypes.c_void_p).value, ctypes.addressof(arguments)))
            continue
        if calls:
            yield (Call * len(calls))(*calls)
            calls = []
        if each is not None:
            yield each


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own has no types
    """Spoils a recording where PyTorch does more than to look at a tensor in another way."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would import its compiler at the first call, to be kept out of it: 60 MB and most of a second."""
        return False

    def __init__(self, recording: Recording) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._recording = recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = [each.alias_info for each in func._schema.returns]
        if self._recording.watched and (not returned or any(alias is None or alias.is_write for alias in returned)):
            self._recording.whole = False
        return func(*args, **(kwargs or {}))


_current: ContextVar[Recording | None] = ContextVar("recording", default=None)


def current() -> Recording | None:
    """What the calls of kernels are kept in, if they are."""
    return _current.get()


def between(work: Callable[[], object]) -> None:
    """Work between kernels that is to be done again with them, in the same places of memory."""
    recording = current()
    if recording is None:
        work()
    else:
        recording.between(work)


@contextmanager
def recorded(room: Room) -> Iterator[Recording]:
    """Keeps the calls that are made inside; `whole` says whether they are all that was done."""
    recording = Recording(room)
    token = _current.set(recording)
    try:
        with _Watch(recording):
            yield recording
    finally:
        _current.reset(token)
