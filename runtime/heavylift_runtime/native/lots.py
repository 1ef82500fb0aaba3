"""Which rank of a machine reads which long range of a checkpoint for all of them: each byte once.

A rank's part of a matrix is half of it, or a piece of every row; what S3 gives quickest are long ranges. Here tensors
are read whole, in the order of their files: what is long even in parts by the ranks whose parts they are, all else by
whoever has least to read. The reader's own part goes straight to where it stays if it is in one piece; the rest lies on
its shelf for all who need it. Not the reading (gathering.py), not the memory (shelves.py), and no rule of splitting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.heap import ALIGNED, aligned
from heavylift_runtime.native.reading import DTYPES, Pieces, Reading

OUTSTANDING = 48
"""Lots from the first that somebody still needs to the last that is read or taken: of twice as many two words each,
which a rank may not have heard, fit into a socket (277 do in Linux's own 208 KiB)."""
OWN = 4 * 1024 * 1024
"""Bytes in one piece from which they are read by the rank that needs them, where it is only one: a request of that
length costs no more for its bytes than a longer one does."""
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
