"""A part of a stored tensor as pieces of a file, and the reading of them: no byte of the file that is not the part's.

Not the loader (which weight, when) and not a source (how a range is read). Nothing here knows a rank or a format.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import torch
from torch import Tensor

from heavylift_runtime.families.table import Shard
from heavylift_runtime.native.header import Stored
from heavylift_runtime.native.sources import Source

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
          "I32": torch.int32, "I8": torch.int8, "U8": torch.uint8}  # fmt: skip
"""Types that a tensor of a checkpoint may have; those of whole numbers hold quantized ones, and are never cast."""
NAMES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
"""What a model can be served in: safetensors' name of a type → its name in options."""


@dataclass(frozen=True)
class Block:
    """`count` pieces of `width` bytes, `pitch` bytes apart from byte `start` on: numbers `[first, last)` of a part."""

    start: int
    pitch: int
    count: int
    width: int
    first: int
    last: int

    @property
    def span(self) -> int:
        """Bytes of the file from the first piece's start to the last one's end."""
        return (self.count - 1) * self.pitch + self.width

    @property
    def gapless(self) -> bool:
        return self.span == self.count * self.width


@dataclass(frozen=True)
class Cut:
    """`rows` times `width` numbers, `pitch` apart from number `at` of a range on; of a part those from `to` on."""

    at: int
    to: int
    rows: int
    width: int
    pitch: int


@dataclass(frozen=True)
class Pieces:
    """A part that is `width` numbers from number `first` of a tensor on, and so `count` times, `pitch` apart."""

    count: int
    pitch: int
    first: int
    width: int

    def within(self, first: int, last: int) -> Iterator[Cut]:
        """What lies in numbers `[first, last)` of the tensor: whole pieces in one, and those cut at an end."""
        row = max(0, (first - self.first - self.width) // self.pitch + 1)
        over = min(self.count, -((self.first - last) // self.pitch))
        while row < over:
            start = self.first + row * self.pitch
            low, high = max(first, start), min(last, start + self.width)
            rows = 1
            if high - low == self.width:  # and those behind it, but for the last one if that is cut
                rows = over - row - (row + 1 < over and self.first + (over - 1) * self.pitch + self.width > last)
            yield Cut(low - first, row * self.width + low - start, rows, high - low, self.pitch)
            row += rows


@dataclass(frozen=True)
class Reading:
    """A part of a stored tensor, numbered in the order of the file: row-major, or as a transposed tensor was saved."""

    stored: Stored
    part: Shard

    def shaped(self, flat: Tensor) -> Tensor:
        """The numbers in the part's shape, contiguous; without a copy where the file is row-major."""
        axes = self._axes
        shape = [self.part.shape[axis] for axis in axes]
        return flat.view(shape).permute([axes.index(axis) for axis in range(len(axes))]).contiguous()

    def flat(self, tensor: Tensor) -> Tensor:
        """The inverse of `shaped`."""
        return tensor.permute(self._axes).flatten()

    @property
    def _axes(self) -> list[int]:
        """The dimensions from the one with the longest stride on; those of one element keep their place."""
        steps, shape = self.stored.steps, self.stored.shape
        wide = [axis for axis, size in enumerate(shape) if size > 1]
        by_step = iter(sorted(wide, key=lambda axis: -steps[axis]))
        return [next(by_step) if size > 1 else axis for axis, size in enumerate(shape)]

    @property
    def pieces(self) -> Pieces | None:
        """The same pieces at the same distances that the part of a row-major tensor is, if it is such; in numbers."""
        if self.stored.strides is not None and self.stored.steps != replace(self.stored, strides=None).steps:
            return None
        first, loops, width = self._loops()
        if len(loops) > 1:
            return None
        count, pitch = loops[0] if loops else (1, width)
        return Pieces(count, pitch, first, width)

    def blocks(self, limit: int) -> Iterator[Block]:
        """All of the part, in order; each spans so many bytes of the file at most, or one piece of a row."""
        item = self.stored.item
        start, loops, width = self._loops()
        start, width = self.stored.start + start * item, width * item
        first = 0
        if self.part.elements == 0:
            return
        *outer, (count, pitch) = loops if loops else [(1, width // item)]
        for places in product(*(range(times) for times, _ in outer)):
            base = start + item * sum(place * step for place, (_, step) in zip(places, outer, strict=True))
            rows = max(1, limit // (pitch * item))
            for row in range(0, count, rows):
                some = min(rows, count - row)
                for offset in range(0, width, limit if some == 1 else width):
                    piece = min(width - offset, limit) if some == 1 else width
                    numbers = some * piece // item
                    place = base + row * pitch * item + offset
                    yield Block(place, pitch * item, some, piece, first, first + numbers)
                    first += numbers

    def _loops(self) -> tuple[int, list[tuple[int, int]], int]:
        """Where the part begins, (times, step) of each loop from the outermost on, and the length of a piece.

        In numbers. Loops that follow one another without a gap are one, so that a whole tensor is one piece.
        """
        steps, sizes = self.stored.steps, self.part.shape
        start = sum(begin * step for begin, step in zip(self.part.start, steps, strict=True))
        loops: list[tuple[int, int]] = []
        width = 1
        for axis in reversed(self._axes):
            if sizes[axis] == 1:
                continue
            if not loops and steps[axis] == width:
                width *= sizes[axis]
            elif loops and steps[axis] == loops[0][0] * loops[0][1]:
                loops[0] = loops[0][0] * sizes[axis], loops[0][1]
            else:
                loops.insert(0, (sizes[axis], steps[axis]))
        return start, loops, width


class Buffer(threading.local):
    """A thread's own memory for numbers that are cast: kept, for the allocator would keep more of many short ones."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)

    def room(self, count: int, dtype: torch.dtype) -> Tensor:
        """Memory for so many numbers, whatever it holds; until the next call."""
        size = count * dtype.itemsize
        if len(self._memory) < size:
            self._memory = torch.empty(size, dtype=torch.uint8)
        return self._memory[:size].view(dtype)


@dataclass(frozen=True)
class Task:
    """A block of a stored tensor, on its way to its numbers' place in `flat`."""

    stored: Stored
    block: Block
    flat: Tensor

    @property
    def casts(self) -> bool:
        """Whether its numbers are of another type where they stay."""
        return DTYPES[self.stored.dtype] != self.flat.dtype

    def follows(self, other: Task) -> bool:
        """Whether its bytes begin where the other's end, so that one read can bring both to tensors of one kind."""
        return (
            (self.stored.file, self.stored.dtype, self.flat.dtype)
            == (other.stored.file, other.stored.dtype, other.flat.dtype)
            and self.block.gapless
            and other.block.gapless
            and self.block.start == other.block.start + other.block.span
        )


def runs(tasks: Sequence[Task], source: Source) -> Iterator[slice]:
    """Which tasks one read brings: neighbours in a file, of so many bytes together as the source has at most."""
    first = size = 0
    for place, (before, task) in enumerate(pairwise(tasks), 1):
        size += before.block.span
        limit = source.cast if task.casts else source.block
        if not task.follows(before) or size + task.block.span > limit:
            yield slice(first, place)
            first, size = place, 0
    if tasks:
        yield slice(first, len(tasks))


@torch.inference_mode()  # of its own: the mode does not reach the readers' threads
def read_run(source: Source, run: Sequence[Task], buffer: Buffer) -> None:
    """Reads numbers, cast, to their places in tensors, by one read; straight into them where they need no cast."""
    stored, kind = run[0].stored, run[0].flat.dtype
    targets = [task.flat[task.block.first : task.block.last] for task in run]
    kept = DTYPES[stored.dtype]
    read: Sequence[Tensor] = targets
    if kept != kind:
        read = torch.split(buffer.room(sum(map(len, targets)), kept), [len(target) for target in targets])
    if len(run) == 1:
        block = run[0].block
        source.read_rows(stored.file, block.start, block.pitch, block.width, bytes_of(read[0]))
    else:
        source.read_into(stored.file, run[0].block.start, *map(bytes_of, read))
    if kept != kind:
        for target, came in zip(targets, read, strict=True):
            target.copy_(came)


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a flat, contiguous tensor."""
    return memoryview(tensor.view(torch.uint8).numpy())  # type: ignore[arg-type]  # an array has a buffer since 3.12 only
