"""Which rank of a machine reads which long range of a checkpoint for all of them: each byte once.

A rank's part of a matrix is half of it, or a piece of every row; what S3 gives quickest are long ranges. Here tensors
are read whole, in the order of their files: what is long even in parts by the ranks whose parts they are, all else by
whoever has least to read. The reader's own part goes straight to where it stays if it is in one piece; only what is
left takes room on its shelf, for all who need it. Not the reading (gathering.py), not the memory (shelves.py), and no
rule of splitting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.heap import ALIGNED, aligned
from heavylift_runtime.native.reading import DTYPES, Pieces, Reading

OUTSTANDING = 48
"""Lots from the first that somebody still needs to the last that is taken, or read for others: of twice as many two
words each, which a rank may not have heard, fit into a socket (277 do in Linux's own 208 KiB)."""
OWN = 2 * 1024 * 1024
"""Bytes in one piece from which they are read by the rank that needs them, where it is only one: a request more then
costs less than to copy them from another's shelf does (measured at 1, 2.5 and 4 MiB)."""
DIRECT = 64 * 1024
"""Bytes in one piece from which the reader's own part is read to where it stays."""
ANYBODY = -1
"""No rank in particular."""


@dataclass(frozen=True)
class Wanted:
    """A tensor of which every rank wants a part: this rank's, and the type that it becomes."""

    reading: Reading
    dtype: torch.dtype
    pieces: Pieces
    needed: Sequence[tuple[int, int]]
    """Of each rank, the numbers `[first, last)` from the first to the last of its part."""
    gapless: bool
    """Whether each rank needs all numbers between these."""

    @property
    def direct(self) -> bool:
        """Whether its numbers are read as what they become, and each rank's are in one piece."""
        return self.gapless and DTYPES[self.reading.stored.dtype] == self.dtype

    @property
    def total(self) -> int:
        """All of the tensor's numbers."""
        return self.reading.stored.bytes // self.reading.stored.item

    @property
    def segments(self) -> Iterator[tuple[int, int, int]]:
        """All numbers as `[first, last)` and the rank that reads them to where they stay, if there is one such."""
        item = self.reading.stored.item
        long = [ends if self.direct and (ends[1] - ends[0]) * item >= OWN else (0, 0) for ends in self.needed]
        for first, last in pairwise(sorted({0, self.total, *(end for ends in long for end in ends)})):
            having = [rank for rank, (low, high) in enumerate(long) if low <= first and last <= high]
            yield first, last, having[0] if len(having) == 1 else ANYBODY

    def parts(self, rank: int, first: int, last: int) -> Iterator[tuple[int, int, bool]]:
        """Numbers `[first, last)` as such pieces, and of each whether this rank reads it to where it stays.

        That is what it alone needs, if it is long and in one piece.
        """
        low, high = (max(first, self.needed[rank][0]), min(last, self.needed[rank][1])) if self.direct else (0, 0)
        alone = all(end <= low or high <= start for each, (start, end) in enumerate(self.needed) if each != rank)
        if not alone or (high - low) * self.reading.stored.item < DIRECT:
            low = high = first
        for start, end, straight in ((first, low, False), (low, high, True), (high, last, False)):
            if start < end:
                yield start, end, straight


def shared(group: Group, parts: Mapping[str, tuple[Sequence[Reading], torch.dtype]]) -> dict[str, Wanted]:
    """What all ranks of a group can take out of long ranges, in the order given, which is the same on all of them.

    That is of one tensor each, in pieces at one distance, none of whose numbers may be cut.
    """
    found, told = dict[str, Pieces](), list[tuple[int, int, int]]()
    for name, (readings, _) in parts.items():
        stored, pieces = readings[0].stored, readings[0].pieces
        if pieces is None or len(readings) > 1 or stored.start % stored.item:
            told.append((0, 0, 0))
            continue
        found[name] = pieces
        told.append((pieces.first, pieces.first + (pieces.count - 1) * pieces.pitch + pieces.width, pieces.count))
    every = group.all_gather(torch.tensor(told).view(-1, 3)).transpose(0, 1).tolist()
    return {
        name: Wanted(
            readings[0],
            dtype,
            found[name],
            [(first, last) for first, last, _ in needed],
            all(count == 1 for *_, count in needed),
        )
        for (name, (readings, dtype)), needed in zip(parts.items(), every, strict=True)
        if all(count > 0 for *_, count in needed)
    }


@dataclass(frozen=True)
class Piece:
    """Numbers `[first, last)` of a tensor, at byte `at` of what a lot has on its shelf; None: its reader's alone."""

    name: str
    first: int
    last: int
    at: int | None = None


@dataclass(frozen=True)
class Lot:
    """Bytes `[start, start + size)` of a file: these pieces one after the other, read by `owner`.

    `place`: where on its shelf it lays what is not its alone. Before it may begin, everybody must have taken `after`
    lots, for their bytes lay there, and it itself `own`, for no more is to be on its way.
    """

    file: str
    start: int
    size: int
    pieces: tuple[Piece, ...]
    owner: int = ANYBODY
    place: int = 0
    after: int = 0
    own: int = 0


def ranges(tensors: Mapping[str, Wanted], most: int, ahead: int) -> Iterator[Lot]:
    """All bytes of tensors, which are given in the order of their use, in ranges of so many bytes at most.

    `ahead`: bytes of tensors, in that order, that are read in the order of their files.
    """
    assert most >= 2 * ALIGNED, "a range ends where a file's bytes are aligned"
    window, size = list[tuple[str, Wanted]](), 0
    for name, wanted in tensors.items():
        if size >= ahead:
            yield from _in_file_order(window, most)
            window, size = [], 0
        window.append((name, wanted))
        size += wanted.reading.stored.bytes
    yield from _in_file_order(window, most)


def _in_file_order(window: list[tuple[str, Wanted]], most: int) -> Iterator[Lot]:
    """The window's bytes from the start of each file on."""
    file, start, end, stop, owner = "", 0, 0, 0, ANYBODY
    pieces = list[Piece]()
    for name, wanted in sorted(window, key=lambda each: (each[1].reading.stored.file, each[1].reading.stored.start)):
        stored = wanted.reading.stored
        for first, last, having in wanted.segments:
            while first < last:
                at = stored.start + first * stored.item
                if (file, end, owner) != (stored.file, at, having) or end == stop:
                    if pieces:
                        yield Lot(file, start, end - start, tuple(pieces), owner)
                    file, start, owner, pieces = stored.file, at, having, []
                    stop = (at + most) // ALIGNED * ALIGNED
                over = min(last, (stop - stored.start) // stored.item)
                pieces.append(Piece(name, first, over))
                first, end = over, stored.start + over * stored.item
    if pieces:
        yield Lot(file, start, end - start, tuple(pieces), owner)


def laid_out(lots: Iterable[Lot], tensors: Mapping[str, Wanted], world: int, size: int, ahead: int) -> Iterator[Lot]:
    """Who reads which lot: anybody's, who has the fewest bytes; and what of it lies where on that rank's shelf.

    `size`: bytes of a shelf; `ahead`: bytes of one rank's lots that are on their way at most.
    """
    plans = [_Plan(size, ahead) for _ in range(world)]
    for number, lot in enumerate(lots):
        owner = min(range(world), key=lambda rank: plans[rank].read) if lot.owner == ANYBODY else lot.owner
        yield plans[owner].add(number, replace(lot, owner=owner), tensors)


class _Plan:
    """What one rank reads, one lot after the other, and where it lays it."""

    def __init__(self, size: int, ahead: int) -> None:
        self.read = 0
        self._size, self._ahead = size, ahead
        self._head = self._sum = self._own = 0
        self._laid, self._coming = deque[tuple[int, int, int]](), deque[tuple[int, int]]()

    def add(self, number: int, lot: Lot, tensors: Mapping[str, Wanted]) -> Lot:
        pieces, at, room = list[Piece](), lot.start, 0
        for each in lot.pieces:
            wanted = tensors[each.name]
            for first, last, alone in wanted.parts(lot.owner, each.first, each.last):
                room += 0 if alone else (at - room) % ALIGNED  # within 64 bytes as in the file: numbers stay aligned
                pieces.append(Piece(each.name, first, last, None if alone else room))
                size = (last - first) * wanted.reading.stored.item
                at, room = at + size, room + (0 if alone else size)
        self.read += lot.size
        place, after = self._place(number, aligned(room))
        return replace(lot, pieces=tuple(pieces), place=place, after=after, own=self._begun(number, lot.size))

    def _place(self, number: int, room: int) -> tuple[int, int]:
        """Where so many bytes lie, and how many lots everybody must have taken before they may be written."""
        if room == 0:
            return 0, 0
        start = self._head if self._head + room <= self._size else 0
        self._head = start + room
        while self._laid and self._laid[0][0] < number - OUTSTANDING:
            self._laid.popleft()
        there = [before + 1 for before, low, high in self._laid if low < start + room and start < high]
        self._laid.append((number, start, start + room))
        return start, max([0, number - OUTSTANDING, *there])

    def _begun(self, number: int, size: int) -> int:
        """How many lots this rank must have taken itself, so that not too many bytes are on their way to it."""
        self._coming.append((number, size))
        self._sum += size
        while self._sum > self._ahead and len(self._coming) > 1:
            before, gone = self._coming.popleft()
            self._sum, self._own = self._sum - gone, before + 1
        return self._own
