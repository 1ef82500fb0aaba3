"""Long ranges of a checkpoint that the ranks of a machine read for each other: each range once, by one of them.

A rank's part of a matrix is half of it, or a piece of every row; what S3 gives quickest are long ranges. Here tensors
are read whole, in the order of their files. The reader's own part goes straight to where it stays if it is in
one piece; the rest lies on its shelf for all who need it. Not the memory (shelves.py), and no rule of splitting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heavylift_runtime.native.header import Stored
from heavylift_runtime.native.heap import ALIGNED, aligned
from heavylift_runtime.native.reading import DTYPES, Cut, Reading, bytes_of
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
READ, TAKEN = b"r", b"t"
"""Words: this lot is on my shelf; I have taken so many lots."""


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
    owner: int = 0
    place: int = 0
    after: int = 0


def ranges(tensors: Mapping[str, Stored], most: int) -> Iterator[Lot]:
    """All bytes of tensors, which are given in the order of their use, in ranges of so many bytes at most."""
    assert most >= 2 * ALIGNED, "a range ends where a file's bytes are aligned"
    window, size = list[tuple[str, Stored]](), 0
    for name, stored in tensors.items():
        if size >= WINDOW:
            yield from _in_file_order(window, most)
            window, size = [], 0
        window.append((name, stored))
        size += stored.bytes
    yield from _in_file_order(window, most)


def _in_file_order(window: list[tuple[str, Stored]], most: int) -> Iterator[Lot]:
    """The window's bytes from the start of each file on."""
    file, start, end, stop = "", 0, 0, 0
    pieces = list[Piece]()
    for name, stored in sorted(window, key=lambda each: (each[1].file, each[1].start)):
        over = stored.start + stored.bytes
        at = stored.start
        while at < over:
            if (file, end) != (stored.file, at) or end == stop:
                if pieces:
                    yield Lot(file, start, end - start, tuple(pieces))
                file, start, stop, pieces = stored.file, at, (at + most) // ALIGNED * ALIGNED, []
            end = min(over, stop)
            first, last = (at - stored.start) // stored.item, (end - stored.start) // stored.item
            pieces.append(Piece(name, first, last, at - start))
            at = end
    if pieces:
        yield Lot(file, start, end - start, tuple(pieces))


def laid_out(lots: Iterator[Lot], world: int, size: int) -> list[Lot]:
    """Who reads which lot: whoever has the fewest bytes; and where it lies on that rank's shelf, of so many bytes."""
    found, read, heads = list[Lot](), [0] * world, [0] * world
    for number, lot in enumerate(lots):
        owner = read.index(min(read))
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


def fits(reading: Reading) -> bool:
    """Whether a part can be taken out of long ranges: as pieces at one distance, none of whose numbers may be cut."""
    return reading.pieces is not None and reading.stored.start % reading.stored.item == 0


class Lots:
    """One rank's end. All ranks want parts of the same tensors in the same order, and so agree on all lots."""

    def __init__(
        self,
        shelves: Shelves,
        rank: int,
        source: Source,
        pool: ThreadPoolExecutor,
        wanted: Mapping[str, tuple[Reading, torch.dtype]],
        room: Callable[[int, torch.dtype], Tensor],
    ) -> None:
        """`wanted`: in the order of their use, and the type of each; `pool`: whose threads read; `room`: memory."""
        self._shelves, self._rank, self._source, self._pool = shelves, rank, source, pool
        self._wanted, self._room = wanted, room
        self._pieces = {name: reading.pieces for name, (reading, _) in wanted.items()}
        world, size = len(shelves.every), len(shelves.every[0])
        tensors = {name: reading.stored for name, (reading, _) in wanted.items()}
        most = max(2 * ALIGNED, min(source.block, size // SHARE))
        self._lots = laid_out(ranges(tensors, most), world, size)
        self._last = {piece.name: number for number, lot in enumerate(self._lots) for piece in lot.pieces}
        self._others = [other for other in range(world) if other != rank]
        self._mine = iter([number for number, lot in enumerate(self._lots) if lot.owner == rank])
        self._following = next(self._mine, None)  # the first of them that is not begun
        self._reads: dict[int, Future[None]] = {}
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
        return self._wanted[name][0].shaped(part)

    def _part(self, name: str) -> Tensor:
        """Where this rank's numbers of a tensor stay, flat."""
        if name not in self._parts:
            reading, dtype = self._wanted[name]
            self._parts[name] = self._room(reading.part.elements, dtype)
        return self._parts[name]

    def _begin(self, wanted: int = -1) -> None:
        """Lets this rank's lots be read as far as there is room on its shelf; waits for it for lot `wanted`."""
        while (number := self._following) is not None:
            after = self._lots[number].after
            if self._taken[self._rank] < after or not all(
                self._heard(rank, wait=number <= wanted, taken=after) for rank in self._others
            ):
                return
            self._reads[number] = self._pool.submit(self._lay, number, self._buffers(number))
            self._following = next(self._mine, None)

    def _buffers(self, number: int) -> list[memoryview]:
        """Where the bytes of a lot go: to the parts that they stay in, or to the shelf."""
        lot, shelf = self._lots[number], bytes_of(self._shelves.every[self._rank])
        shelf = shelf[lot.place : lot.place + lot.size]
        buffers, done = list[memoryview](), 0
        for piece in lot.pieces:
            for cut in self._cuts(piece):
                if self._direct(piece, cut):
                    item = self._wanted[piece.name][0].stored.item
                    start = piece.at + cut.at * item
                    straight = bytes_of(self._part(piece.name)[cut.to : cut.to + cut.width])
                    buffers += (shelf[done:start], straight)
                    done = start + len(straight)
        return [buffer for buffer in (*buffers, shelf[done:]) if len(buffer)]

    def _cuts(self, piece: Piece) -> Iterator[Cut]:
        """This rank's numbers of a piece."""
        pieces = self._pieces[piece.name]
        assert pieces is not None, "the loader has asked `fits`"
        return pieces.within(piece.first, piece.last) if self._wanted[piece.name][0].part.elements else iter(())

    def _direct(self, piece: Piece, cut: Cut) -> bool:
        """Whether this rank reads these numbers, where it reads them, to where they stay."""
        reading, dtype = self._wanted[piece.name]
        whole = cut.rows == 1 and cut.width * reading.stored.item >= DIRECT
        return whole and DTYPES[reading.stored.dtype] == dtype

    def _lay(self, number: int, buffers: list[memoryview]) -> None:
        """Reads a lot (on a reader's thread)."""
        lot = self._lots[number]
        self._source.read_into(lot.file, lot.start, *buffers)
        self._shelves.tell(READ, number)

    def _gather(self, number: int) -> None:
        """Copies this rank's numbers of a lot, and makes room for those that wait for it."""
        lot = self._lots[number]
        own = lot.owner == self._rank
        if own:
            self._reads.pop(number).result()
        else:
            self._heard(lot.owner, wait=True, read=number)
        for piece in lot.pieces:
            reading, _ = self._wanted[piece.name]
            place = lot.place + piece.at
            shelf = self._shelves.every[lot.owner][place : place + (piece.last - piece.first) * reading.stored.item]
            numbers = shelf.view(DTYPES[reading.stored.dtype])
            for cut in self._cuts(piece):
                if not (own and self._direct(piece, cut)):
                    target = self._part(piece.name)[cut.to : cut.to + cut.rows * cut.width]
                    shape = (cut.rows, cut.width)
                    target.view(shape).copy_(numbers[cut.at :].as_strided(shape, (cut.pitch, 1)))
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
