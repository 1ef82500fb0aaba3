"""Long ranges of a checkpoint that the ranks of a machine read for each other: each range once, by one of them.

A rank's part of a matrix is half of it, or a piece of every row; what S3 gives quickest are long ranges. Here tensors
are read whole, in the order of their files: what is long even in parts by the ranks whose parts they are, all else by
whoever has least to read. The reader's own part goes straight to where it stays if it is in one piece; the rest lies on
its shelf for all who need it. Not the memory (shelves.py), and no rule of splitting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.heap import ALIGNED, aligned
from heavylift_runtime.native.reading import DTYPES, Cut, Pieces, Reading, bytes_of
from heavylift_runtime.native.shelves import Shelves
from heavylift_runtime.native.sources import Source

WINDOW = 64 * 1024 * 1024
"""Bytes of tensors, in the order of their use, that are read in the order of their files."""
OUTSTANDING = 64
"""Lots from the first that somebody still needs to the last that is read: their words fit into a socket."""
SHARE = 4
"""A lot takes one in so many parts of a shelf at most, so that some are read while one is taken."""
LEAST = 1024
"""Bytes of a shelf."""
DIRECT = 64 * 1024
"""Bytes in one piece from which the reader's own part is read to where it stays."""
OWN = 8 * 1024 * 1024
"""Bytes in one piece from which they are read by the rank that needs them, where it is only one; a request's length."""
ANYBODY = -1
"""No rank in particular."""
READ, TAKEN = b"r", b"t"
"""Words: this lot is on my shelf; I have taken so many lots."""


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
    def stays(self) -> bool:
        """Whether its numbers are read as what they become."""
        return DTYPES[self.reading.stored.dtype] == self.dtype

    @property
    def segments(self) -> Iterator[tuple[int, int, int]]:
        """All numbers as `[first, last)` and the rank that reads them to where they stay, if there is one such."""
        stored = self.reading.stored
        total, direct = stored.bytes // stored.item, self.gapless and self.stays
        long = [ends if direct and (ends[1] - ends[0]) * stored.item >= OWN else (0, 0) for ends in self.needed]
        for first, last in pairwise(sorted({0, total, *(end for ends in long for end in ends)})):
            having = [rank for rank, (low, high) in enumerate(long) if low <= first and last <= high]
            yield first, last, having[0] if len(having) == 1 else ANYBODY

    def alone(self, rank: int, first: int, last: int) -> bool:
        """Whether no other rank needs any of these numbers."""
        return all(high <= first or last <= low for other, (low, high) in enumerate(self.needed) if other != rank)


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
    """Numbers `[first, last)` of a tensor, at byte `at` of a lot."""

    name: str
    first: int
    last: int
    at: int


@dataclass(frozen=True)
class Lot:
    """Bytes `[start, start + size)` of a file, read by `owner`, at byte `place` of its shelf.

    `after`: so many lots must have been taken by everybody before these bytes may be written again.
    """

    file: str
    start: int
    size: int
    pieces: tuple[Piece, ...]
    owner: int = ANYBODY
    place: int = 0
    after: int = 0


def ranges(tensors: Mapping[str, Wanted], most: int) -> Iterator[Lot]:
    """All bytes of tensors, which are given in the order of their use, in ranges of so many bytes at most."""
    assert most >= 2 * ALIGNED, "a range ends where a file's bytes are aligned"
    window, size = list[tuple[str, Wanted]](), 0
    for name, wanted in tensors.items():
        if size >= WINDOW:
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
                pieces.append(Piece(name, first, over, at - start))
                first, end = over, stored.start + over * stored.item
    if pieces:
        yield Lot(file, start, end - start, tuple(pieces), owner)


def laid_out(lots: Iterator[Lot], world: int, size: int) -> list[Lot]:
    """Who reads which lot: anybody's, who has the fewest bytes; and where it lies on that rank's shelf of `size`."""
    found, read, heads = list[Lot](), [0] * world, [0] * world
    for number, lot in enumerate(lots):
        owner = read.index(min(read)) if lot.owner == ANYBODY else lot.owner
        read[owner] += lot.size
        room = aligned(lot.start % ALIGNED + lot.size)
        head = heads[owner] if heads[owner] + room <= size else 0
        heads[owner] = head + room
        oldest = max(0, number - OUTSTANDING)
        there = [
            before + 1
            for before, other in enumerate(found[oldest:], oldest)
            if other.owner == owner and other.place < head + room and head < aligned(other.place + other.size)
        ]
        place = head + lot.start % ALIGNED
        found.append(replace(lot, owner=owner, place=place, after=max(there, default=oldest)))
    return found


class Lots:
    """One rank's end. All ranks want parts of the same tensors in the same order, and so agree on all lots."""

    def __init__(
        self,
        shelves: Shelves,
        rank: int,
        source: Source,
        pool: ThreadPoolExecutor,
        wanted: Mapping[str, Wanted],
        room: Callable[[int, torch.dtype], Tensor],
    ) -> None:
        """`wanted`: in the order of their use; `pool`: whose threads read; `room`: memory for numbers that stay."""
        self._shelves, self._rank, self._source, self._pool = shelves, rank, source, pool
        self._wanted, self._room = wanted, room
        world, size = len(shelves.every), len(shelves.every[0])
        most = max(2 * ALIGNED, min(source.block, size // SHARE))
        self._lots = laid_out(ranges(wanted, most), world, size)
        self._last = {piece.name: number for number, lot in enumerate(self._lots) for piece in lot.pieces}
        self._others = [other for other in range(world) if other != rank]
        self._mine = iter([number for number, lot in enumerate(self._lots) if lot.owner == rank])
        self._following = next(self._mine, None)  # the first of them that is not begun
        self._reads: dict[int, tuple[Future[None], list[tuple[Piece, Cut]]]] = {}  # and what is to be copied then
        self._parts: dict[str, Tensor] = {}
        self._given: set[str] = set()
        self._read = [set[int]() for _ in range(world)]  # of each rank, the lots that it said it has read
        self._taken = [0] * world

    def __contains__(self, name: str) -> bool:
        return name in self._wanted

    @property
    def left(self) -> list[str]:
        """What was not taken."""
        return [name for name in self._wanted if name not in self._given]

    def take(self, name: str) -> Tensor:
        """The part in its shape; what lies in the same lots and those before is gathered, too, and kept."""
        while (number := self._taken[self._rank]) <= self._last.get(name, -1):
            self._begin(number)
            self._gather(number)
        assert name not in self._given, f"{name} was taken before"
        part = self._part(name)
        del self._parts[name]
        self._given.add(name)
        return self._wanted[name].reading.shaped(part)

    def _part(self, name: str) -> Tensor:
        """Where this rank's numbers of a tensor stay, flat."""
        if name not in self._parts:
            wanted = self._wanted[name]
            self._parts[name] = self._room(wanted.reading.part.elements, wanted.dtype)
        return self._parts[name]

    def _begin(self, wanted: int = -1) -> None:
        """Lets this rank's lots be read as far as there is room on its shelf; waits for it for lot `wanted`."""
        while (number := self._following) is not None:
            after = self._lots[number].after
            if self._taken[self._rank] < after or not all(
                self._heard(rank, wait=number <= wanted, taken=after) for rank in self._others
            ):
                return
            buffers, rest = self._buffers(self._lots[number])
            self._reads[number] = self._pool.submit(self._lay, number, buffers), rest
            self._following = next(self._mine, None)

    def _buffers(self, lot: Lot) -> tuple[list[memoryview], list[tuple[Piece, Cut]]]:
        """Where the bytes of a lot go: to the parts that they stay in, or to the shelf; and what is to be copied."""
        shelf = bytes_of(self._shelves.every[self._rank])[lot.place : lot.place + lot.size]
        buffers, rest, done = list[memoryview](), list[tuple[Piece, Cut]](), 0
        for piece, cut in self._cuts(lot):
            wanted = self._wanted[piece.name]
            item, first = wanted.reading.stored.item, piece.first + cut.at
            long = cut.rows == 1 and cut.width * item >= DIRECT
            if long and wanted.stays and wanted.alone(self._rank, first, first + cut.width):
                start = piece.at + cut.at * item
                straight = bytes_of(self._part(piece.name)[cut.to : cut.to + cut.width])
                buffers += (shelf[done:start], straight)
                done = start + len(straight)
            else:
                rest.append((piece, cut))
        return [buffer for buffer in (*buffers, shelf[done:]) if len(buffer)], rest

    def _cuts(self, lot: Lot) -> Iterator[tuple[Piece, Cut]]:
        """This rank's numbers of a lot."""
        for piece in lot.pieces:
            wanted = self._wanted[piece.name]
            if wanted.reading.part.elements:
                yield from ((piece, cut) for cut in wanted.pieces.within(piece.first, piece.last))

    def _lay(self, number: int, buffers: list[memoryview]) -> None:
        """Reads a lot (on a reader's thread)."""
        lot = self._lots[number]
        self._source.read_into(lot.file, lot.start, *buffers)
        self._shelves.tell(READ, number)

    def _gather(self, number: int) -> None:
        """Copies this rank's numbers of a lot, and makes room for those that wait for it."""
        lot = self._lots[number]
        if lot.owner == self._rank:
            future, cuts = self._reads.pop(number)
            future.result()
        else:
            cuts = list(self._cuts(lot))
            self._heard(lot.owner, wait=bool(cuts), read=number)
        for piece, cut in cuts:
            stored = self._wanted[piece.name].reading.stored
            place = lot.place + piece.at
            shelf = self._shelves.every[lot.owner][place : place + (piece.last - piece.first) * stored.item]
            numbers = shelf.view(DTYPES[stored.dtype])
            shape = (cut.rows, cut.width)
            target = self._part(piece.name)[cut.to : cut.to + cut.rows * cut.width].view(shape)
            target.copy_(numbers[cut.at :].as_strided(shape, (cut.pitch, 1)))
        self._taken[self._rank] = number + 1
        self._shelves.tell(TAKEN, number + 1)
        self._begin()

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
