"""A rank's parts of weights, out of long ranges that the ranks of a machine read for each other.

Not the layout (lots.py: who reads what, and where it lies), and not the memory (shelves.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from heavylift_runtime.native.heap import ALIGNED
from heavylift_runtime.native.lots import OUTSTANDING, Lot, Piece, Wanted, laid_out, ranges
from heavylift_runtime.native.reading import DTYPES, Cut, bytes_of
from heavylift_runtime.native.shelves import Shelves
from heavylift_runtime.native.sources import Source

SHARE = 3
"""A lot takes one in so many parts of a shelf at most, so that some are read while one is taken."""
READ, TAKEN = b"r", b"t"
"""Words: this lot is on my shelf; I have taken so many lots."""


class Gathering:
    """One rank's end. All ranks want parts of the same tensors in the same order, and so agree on all lots."""

    def __init__(
        self,
        shelves: Shelves,
        rank: int,
        source: Source,
        pool: ThreadPoolExecutor,
        wanted: Mapping[str, Wanted],
        room: Callable[[int, torch.dtype], Tensor],
        ahead: int,
    ) -> None:
        """`wanted`: in the order of their use; `pool`: whose threads read; `room`: memory for numbers that stay;
        `ahead`: as in `ranges`.
        """
        self._shelves, self._rank, self._source, self._pool = shelves, rank, source, pool
        self._wanted, self._room = wanted, room
        world, size = len(shelves.every), len(shelves.every[0])
        most = max(2 * ALIGNED, min(source.block, size // SHARE))
        self._lots = list[Lot]()
        self._mine = self._own(laid_out(ranges(wanted, most, ahead), wanted, world, size, ahead))
        self._following = next(self._mine, None)  # the first of this rank's that is not begun
        self._others = [other for other in range(world) if other != rank]
        self._whole = {name for name, each in wanted.items() if not each.total}  # all that was gathered
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
        while name not in self._whole:
            number = self._taken[self._rank]
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

    def _own(self, lots: Iterable[Lot]) -> Iterator[int]:
        """This rank's lots, of which no more are laid out than are needed: the first is to be read soon."""
        for number, lot in enumerate(lots):
            self._lots.append(lot)
            if lot.owner == self._rank:
                yield number

    def _begin(self, wanted: int = -1) -> None:
        """Lets this rank's lots be read as far as there is room for them; waits for it for lot `wanted`."""
        while (number := self._following) is not None:
            lot = self._lots[number]
            if self._taken[self._rank] < max(lot.after, lot.own) or not all(
                self._heard(rank, wait=number <= wanted, taken=lot.after) for rank in self._others
            ):
                return
            self._reads[number] = self._pool.submit(self._lay, number, [self._target(lot, each) for each in lot.pieces])
            self._following = next(self._mine, None)

    def _target(self, lot: Lot, piece: Piece) -> memoryview:
        """Where this rank reads a piece to."""
        wanted = self._wanted[piece.name]
        if piece.at is not None:
            return bytes_of(self._shelf(lot, piece))
        (cut,) = wanted.pieces.within(piece.first, piece.last)
        return bytes_of(self._part(piece.name)[cut.to : cut.to + cut.width])

    def _shelf(self, lot: Lot, piece: Piece) -> Tensor:
        """A piece that lies there, as bytes."""
        assert piece.at is not None
        place = lot.place + piece.at
        size = (piece.last - piece.first) * self._wanted[piece.name].reading.stored.item
        return self._shelves.every[lot.owner][place : place + size]

    def _lay(self, number: int, buffers: list[memoryview]) -> None:
        """Reads a lot (on a reader's thread)."""
        lot = self._lots[number]
        self._source.read_into(lot.file, lot.start, *buffers)
        if any(piece.at is not None for piece in lot.pieces):
            self._shelves.tell(READ, number)

    def _gather(self, number: int) -> None:
        """Copies this rank's numbers of a lot, and makes room for those that wait for it."""
        lot = self._lots[number]
        for rank in self._others:  # who needs nothing of many lots is not to run ahead until its words find no room
            self._heard(rank, wait=True, taken=number - OUTSTANDING)
        cuts = [(piece, cut) for piece in lot.pieces if piece.at is not None for cut in self._cuts(piece)]
        if lot.owner == self._rank:
            self._reads.pop(number).result()
        elif cuts:
            self._heard(lot.owner, wait=True, read=number)
        for piece, cut in cuts:
            numbers = self._shelf(lot, piece).view(DTYPES[self._wanted[piece.name].reading.stored.dtype])
            shape = (cut.rows, cut.width)
            target = self._part(piece.name)[cut.to : cut.to + cut.rows * cut.width].view(shape)
            target.copy_(numbers[cut.at :].as_strided(shape, (cut.pitch, 1)))
        self._whole.update(piece.name for piece in lot.pieces if piece.last == self._wanted[piece.name].total)
        self._taken[self._rank] = number + 1
        self._shelves.tell(TAKEN, number + 1)
        self._begin()

    def _cuts(self, piece: Piece) -> Iterator[Cut]:
        """This rank's numbers of a piece."""
        wanted = self._wanted[piece.name]
        return wanted.pieces.within(piece.first, piece.last) if wanted.reading.part.elements else iter(())

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
