"""Ranges that ranks read for each other: every byte once, no number cut in two, and never over what is still needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime.families.table import Shard
from heavylift_runtime.native import lots as lots_module
from heavylift_runtime.native.header import Stored
from heavylift_runtime.native.heap import ALIGNED
from heavylift_runtime.native.lots import ANYBODY, OUTSTANDING, Lot, Wanted, laid_out, ranges
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


OWN = 512
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
            assert (stored.file, stored.start + piece.first * stored.item) == (lot.file, lot.start + piece.at)
            assert piece.at == at  # nothing between two pieces
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


@given(
    sizes=st.lists(st.integers(1, 1000), max_size=200), size=st.integers(1200, 5000), world=st.integers(1, 4)
)  # fmt: skip
def test_no_lot_is_laid_over_one_that_somebody_still_needs_and_all_read_alike(
    sizes: list[int], size: int, world: int
) -> None:
    starts = accumulate(sizes, initial=8)
    lots = [Lot("a", start, length, ()) for start, length in zip(starts, sizes, strict=False)]

    found = laid_out(iter(lots), world, size)

    read = [sum(lot.size for lot in found if lot.owner == rank) for rank in range(world)]
    assert max(read) - min(read) <= 1000

    for number, lot in enumerate(found):
        assert lot.place + lot.size <= size and lot.place % ALIGNED == lot.start % ALIGNED
        assert number - OUTSTANDING <= lot.after <= number
        for other in found[lot.after : number]:
            apart = other.place + other.size <= lot.place or lot.place + lot.size <= other.place
            assert other.owner != lot.owner or apart
