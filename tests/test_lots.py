"""Ranges that ranks read for each other: every byte once, no number cut in two, and never over what is still needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime.families.table import Shard
from heavylift_runtime.native import lots as lots_module
from heavylift_runtime.native.header import Stored
from heavylift_runtime.native.heap import ALIGNED
from heavylift_runtime.native.lots import ANYBODY, OUTSTANDING, Wanted, laid_out, ranges
from heavylift_runtime.native.reading import DTYPES, Pieces, Reading

ITEMS = {"F64": 8, "F32": 4, "BF16": 2, "I8": 1}


@given(st.data())
def test_a_parts_pieces_are_found_in_whatever_ranges_a_tensor_is_cut(data: st.DataObject) -> None:
    width, count, first = (data.draw(st.integers(low, 9)) for low in (1, 1, 0))
    pitch = width + data.draw(st.integers(1 if count > 1 else 0, 9))
    total = first + (count - 1) * pitch + width + data.draw(st.integers(0, 9))
    bounds = sorted({0, total, *data.draw(st.lists(st.integers(0, total), max_size=6))})
    part: dict[int, int] = {}

    for low, high in pairwise(bounds):
        for cut in Pieces(count, pitch, first, width).within(low, high):
            assert cut.at >= 0 and cut.at + (cut.rows - 1) * cut.pitch + cut.width <= high - low
            for row in range(cut.rows):
                for place in range(cut.width):
                    target = cut.to + row * cut.width + place
                    assert target not in part
                    part[target] = low + cut.at + row * cut.pitch + place

    expected = [first + row * pitch + place for row in range(count) for place in range(width)]
    assert [part[target] for target in range(len(part))] == expected


OWN, DIRECT = 512, 64
AHEAD = 16 * 1024
"""Bytes in one piece that are long, here."""


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Wanted]:
    """Tensors of two files, with and without gaps between them, in another order than they lie there.

    Each rank has a part, of some in one piece: another for each, or for some of them the same.
    """
    world, found = draw(st.integers(1, 4)), list[Wanted]()
    for file in ("a", "b"):
        end = draw(st.integers(0, 100)) * 8
        for number in range(draw(st.integers(0, 8))):
            dtype = draw(st.sampled_from(sorted(ITEMS)))
            start = -(-end // 8) * 8 + draw(st.sampled_from([0, 0, 0, 8, 640]))
            total = draw(st.integers(0, 4000))
            stored = Stored(file, f"{file}{number}", dtype, (total,), start)
            groups = draw(st.integers(1, world))  # so many different parts
            ends = [(total * (r * groups // world) // groups, total * (r * groups // world + 1) // groups)
                    for r in range(world)]  # fmt: skip
            gapless = draw(st.booleans())
            reading = Reading(stored, Shard((0,), (total,)))
            found.append(Wanted(reading, DTYPES[dtype], Pieces(1, total, 0, total), ends, gapless))
            end = start + stored.bytes
    return {wanted.reading.stored.name: wanted for wanted in draw(st.permutations(found))}


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(lots_module, "OWN", OWN)
        patched.setattr(lots_module, "DIRECT", DIRECT)
        yield


@given(tensors=tensors(), most=st.integers(2 * ALIGNED, 8000))
def test_every_number_is_in_one_lot(tensors: dict[str, Wanted], most: int) -> None:
    lots = list(ranges(tensors, most, AHEAD))

    found = {name: list[tuple[int, int]]() for name in tensors}
    for lot in lots:
        assert 0 < lot.size <= most
        at = 0
        for piece in lot.pieces:
            stored = tensors[piece.name].reading.stored
            assert (stored.file, stored.start + piece.first * stored.item) == (lot.file, lot.start + at)  # no gap
            at += (piece.last - piece.first) * stored.item
            found[piece.name].append((piece.first, piece.last))
        assert at == lot.size
    for name, wanted in tensors.items():
        bounds = [0] + [last for _, last in sorted(found[name])]
        assert [first for first, _ in sorted(found[name])] == bounds[:-1]
        assert bounds[-1] == wanted.reading.stored.shape[0]


@given(tensors=tensors(), most=st.integers(2 * ALIGNED, 8000))
def test_a_long_piece_that_one_rank_needs_alone_is_read_by_it(tensors: dict[str, Wanted], most: int) -> None:
    for lot in ranges(tensors, most, AHEAD):
        for piece in lot.pieces:
            wanted = tensors[piece.name]
            item, owned = wanted.reading.stored.item, wanted.needed
            needing = [
                rank
                for rank, (first, last) in enumerate(owned)
                if wanted.gapless and first < piece.last and piece.first < last and (last - first) * item >= OWN
            ]
            assert lot.owner == (needing[0] if len(needing) == 1 else ANYBODY)
            if lot.owner != ANYBODY:
                assert owned[lot.owner][0] <= piece.first and piece.last <= owned[lot.owner][1]


@given(tensors=tensors(), most=st.integers(2 * ALIGNED, 8000), more=st.integers(0, 9000), ahead=st.integers(0, 30000))
def test_no_lot_is_laid_over_one_that_somebody_still_needs_and_what_one_alone_needs_takes_no_room(
    tensors: dict[str, Wanted], most: int, more: int, ahead: int
) -> None:
    world, size = max((len(wanted.needed) for wanted in tensors.values()), default=1), most + 2 * ALIGNED + more
    lots, read, laid = list(ranges(tensors, most, AHEAD)), [0] * world, list[tuple[int, int]]()

    found = list(laid_out(lots, tensors, world, size, ahead))

    for number, (lot, planned) in enumerate(zip(found, lots, strict=True)):
        assert lot.owner == (read.index(min(read)) if planned.owner == ANYBODY else planned.owner)
        read[lot.owner] += lot.size
        places, at = [lot.place], lot.start
        for piece in lot.pieces:
            wanted = tensors[piece.name]
            stored, (first, last) = wanted.reading.stored, wanted.needed[lot.owner]
            assert (stored.file, stored.start + piece.first * stored.item) == (lot.file, at)
            length = (piece.last - piece.first) * stored.item
            if piece.at is None:
                assert wanted.direct and first <= piece.first and piece.last <= last and length >= lots_module.DIRECT
                others = [ends for rank, ends in enumerate(wanted.needed) if rank != lot.owner]
                assert all(high <= piece.first or piece.last <= low for low, high in others)
            else:
                assert lot.place + piece.at >= places[-1] and (lot.place + piece.at) % ALIGNED == at % ALIGNED
                places.append(lot.place + piece.at + length)
            at += length
        assert at == lot.start + lot.size and places[-1] <= size
        laid.append((lot.place, places[-1]))
        assert lot.after <= number and lot.own <= number
        assert number - OUTSTANDING <= lot.after or places[-1] == lot.place
        for other in range(lot.after, number):
            apart = laid[other][1] <= laid[number][0] or laid[number][1] <= laid[other][0]
            assert found[other].owner != lot.owner or apart
        coming = sum(each.size for each in found[lot.own : number] if each.owner == lot.owner)
        assert coming + lot.size <= ahead or coming == 0


def test_who_has_the_fewest_bytes_reads_what_anybody_can() -> None:
    whole = Wanted(
        Reading(Stored("a", "w", "F32", (9000,), 8), Shard((0,), (9000,))),
        DTYPES["F32"],
        Pieces(1, 9000, 0, 9000),
        [(0, 9000)] * 3,
        gapless=True,
    )

    found = list(laid_out(ranges({"w": whole}, 1000, AHEAD), {"w": whole}, 3, 4000, 4000))

    assert [lot.owner for lot in found[:6]] == [0, 1, 2, 0, 1, 2]
    assert len(found) > 3 * 10 and found[-1].own > 0
