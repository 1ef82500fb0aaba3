"""Rows that the ranks of a machine read for each other: each lays its share on its shelf, and takes columns from all.

Of a matrix that is split by its inputs a rank needs a piece of every row. Whole rows are long ranges of the file, which
a disk or S3 gives quickest; here somebody reads them once, and what a rank needs of them is copied once. Not the memory
(shelves.py), and no rule of splitting.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from heavylift_runtime.native.header import Stored
from heavylift_runtime.native.heap import in_large_pages
from heavylift_runtime.native.reading import DTYPES, Reading, bytes_of
from heavylift_runtime.native.shelves import Shelves
from heavylift_runtime.native.sources import Source

OUTSTANDING = 64
"""Lots from the first that somebody still needs to the last that is read: their words fit into a socket."""
SHARE = 4
"""A lot takes one in so many parts of a shelf at most, so that some are read while one is taken."""
ALIGNED = 64
READ, TAKEN = b"r", b"t"
"""Words: this lot is on my shelf; I have taken so many lots."""


@dataclass(frozen=True)
class Lot:
    """Some rows of every rank's share: rank r's are `[first, last)` = `rows[r]`, at byte `place` of its shelf.

    `after`: so many lots must have been taken by everybody before these bytes may be written again.
    """

    stored: Stored
    pitch: int
    rows: tuple[tuple[int, int], ...]
    place: int
    size: int
    after: int


class Rows:
    """One rank's end. All ranks expect the same matrices in the same order, and so agree on where everything lies."""

    def __init__(self, shelves: Shelves, rank: int, source: Source, pool: ThreadPoolExecutor) -> None:
        """`pool`: whose threads read."""
        self._shelves, self._rank, self._source, self._pool = shelves, rank, source, pool
        self._world, self._size = len(shelves.every), len(shelves.every[0])
        self._own = bytes_of(shelves.every[rank])
        self._lots: list[Lot] = []
        self._head = 0
        self._reads: list[Future[None]] = []
        self._waiting: deque[tuple[str, Reading, torch.dtype, range]] = deque()
        self._parts: dict[str, Tensor] = {}
        self._read = [set[int]() for _ in range(self._world)]  # of each rank, the lots that it said it has read
        self._taken = [0] * self._world

    def fits(self, reading: Reading) -> bool:
        """Whether a part is pieces of rows that are short enough for a shelf."""
        return reading.scattered and reading.columns.pitch * reading.stored.item <= self._most

    @property
    def _most(self) -> int:
        """Bytes of a lot."""
        return self._size // SHARE // ALIGNED * ALIGNED

    def expect(self, name: str, reading: Reading, dtype: torch.dtype) -> None:
        """A part that will be taken, in this type: it is read as soon as there is room."""
        columns, first = reading.columns, len(self._lots)
        bounds = [columns.count * rank // self._world for rank in range(self._world + 1)]
        most = max(last - first for first, last in pairwise(bounds))
        pitch = columns.pitch * reading.stored.item
        step = max(1, min(self._source.block, self._most) // pitch)
        for at in range(0, most, step):
            rows = tuple((min(first + at, last), min(first + at + step, last)) for first, last in pairwise(bounds))
            self._lay_out(reading.stored, pitch, rows, min(step, most - at) * pitch)
        self._waiting.append((name, reading, dtype, range(first, len(self._lots))))
        self._begin()

    def _lay_out(self, stored: Stored, pitch: int, rows: tuple[tuple[int, int], ...], size: int) -> None:
        """The next lot's place: behind the last one, or at the shelf's start."""
        size = -(-size // ALIGNED) * ALIGNED
        place = self._head if self._head + size <= self._size else 0
        self._head = place + size
        oldest = max(0, len(self._lots) - OUTSTANDING)
        there = [
            number + 1
            for number, lot in enumerate(self._lots[oldest:], oldest)
            if lot.place < place + size and place < lot.place + lot.size
        ]
        self._lots.append(Lot(stored, pitch, rows, place, size, max(there, default=oldest)))

    def take(self, name: str) -> Tensor:
        """The part in its shape. Those that were expected before it are gathered first, and kept."""
        while name not in self._parts:
            following, reading, dtype, numbers = self._waiting.popleft()
            part = in_large_pages(torch.empty(reading.part.shape, dtype=dtype))
            for number in numbers:
                self._begin(number)
                self._gather(number, reading, part)
            self._parts[following] = part
        return self._parts.pop(name)

    def _begin(self, wanted: int = -1) -> None:
        """Lets lots be read as far as there is room on the shelf; waits for that until lot `wanted` has begun."""
        while (number := len(self._reads)) < len(self._lots):
            after = self._lots[number].after
            if self._taken[self._rank] < after or not all(
                self._heard(rank, wait=number <= wanted, taken=after) for rank in self._others
            ):
                return
            self._reads.append(self._pool.submit(self._lay, number))

    def _lay(self, number: int) -> None:
        """Reads this rank's rows of a lot to its shelf (on a reader's thread)."""
        lot = self._lots[number]
        first, last = lot.rows[self._rank]
        if first < last:
            room = self._own[lot.place : lot.place + (last - first) * lot.pitch]
            self._source.read_into(lot.stored.file, lot.stored.start + first * lot.pitch, room)
        self._shelves.tell(READ, number)

    def _gather(self, number: int, reading: Reading, part: Tensor) -> None:
        """Copies this rank's columns of all ranks' rows, and makes room for the lots that wait for it."""
        lot, columns, kept = self._lots[number], reading.columns, DTYPES[reading.stored.dtype]
        self._reads[number].result()
        for rank in self._others:
            self._heard(rank, wait=True, read=number)
        target = part.view(columns.count, columns.width)
        for shelf, (first, last) in zip(self._shelves.every, lot.rows, strict=True):
            rows = shelf[lot.place : lot.place + (last - first) * lot.pitch].view(kept).view(-1, columns.pitch)
            target[first:last].copy_(rows[:, columns.first : columns.first + columns.width])
        self._taken[self._rank] = number + 1
        self._shelves.tell(TAKEN, number + 1)
        self._begin()

    @property
    def _others(self) -> list[int]:
        return [rank for rank in range(self._world) if rank != self._rank]

    def _heard(self, rank: int, *, wait: bool, taken: int = 0, read: int | None = None) -> bool:
        """Whether a rank has taken so many lots, and has read that one; until then, where it is to be waited for."""
        while self._taken[rank] < taken or (read is not None and read not in self._read[rank]):
            word = self._shelves.hear(rank, wait=wait)
            if word is None:
                return False
            about, number = word
            if about == TAKEN:
                self._taken[rank] = number
            else:
                self._read[rank].add(number)
        if read is not None:
            self._read[rank].discard(read)
        return True
