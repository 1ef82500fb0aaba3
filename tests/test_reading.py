"""Parts of tensors of any shape, split and storage over any number of ranks, read as torch cuts them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.table import Split, Weight, shard
from heavylift_runtime.native import loader as loader_module
from heavylift_runtime.native import mapped
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.header import Stored
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.reading import Buffer, Reading, Task, read_run, runs
from heavylift_runtime.native.sources import Folder, Source
from tests.rank_threads import on_ranks
from tests.t5_checkpoints import write_t5

KINDS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Far(Folder):
    """A folder that is read as S3 is: by several readers, and rows rather than pieces of them."""

    readers, pieces = 3, False


@st.composite
def weights(draw: st.DrawFn, world: int) -> Weight:
    """A weight that divides over the ranks."""
    split = draw(st.sampled_from(Split))
    unit, fused = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    transposed = draw(st.booleans())
    if split is Split.VOCABULARY:
        return Weight("w", (draw(st.integers(world, 20)), draw(st.integers(1, 6))), split)
    axis = int((split in (Split.ROW, Split.HEADS)) != transposed)
    sizes = [draw(st.integers(1, 7)), draw(st.integers(1, 7))]
    if split is not Split.WHOLE:
        sizes[axis] = world * unit * fused * draw(st.integers(1, 3))
    if split is Split.COLUMN and not transposed and draw(st.booleans()):
        return Weight("w", (sizes[0],), split, unit=unit, fused=fused)  # a bias
    fused = fused if split is not Split.WHOLE else 1
    return Weight("w", tuple(sizes), split, unit=unit, fused=fused, transposed=transposed)


def cut(weight: Weight, tensor: Tensor, rank: int, world: int) -> Tensor:
    """The part as torch cuts it, knowing nothing of ranges."""
    if weight.axis is None:
        return tensor
    if weight.split is Split.VOCABULARY:
        return tensor.tensor_split([len(tensor) * each // world for each in range(1, world)])[rank]
    return tensor.view(weight.viewed).chunk(world, weight.axis)[rank]


@settings(max_examples=150, derandomize=True)
@given(st.data(), st.integers(1, 4), st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(KINDS)), st.integers(1, 12))
def test_any_part_is_read_and_cast_as_torch_cuts_and_casts_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, world: int, kept: str, wanted: str, block: int
) -> None:
    weight = data.draw(weights(world))
    tensor = torch.randn(weight.shape).to(KINDS[kept])
    stored = Stored("f", "w", kept, weight.shape, 24)
    folder = tmp_path_factory.mktemp("any")
    content = tensor.view(-1).view(torch.uint8).numpy().tobytes()
    (folder / "f").write_bytes(bytes(24) + content + b"behind")
    read: list[tuple[int, int]] = []

    class Watched(Folder):
        def read_rows(self, name: str, start: int, pitch: int, width: int, buffer: memoryview) -> None:
            read.extend((place, place + width) for place in range(start, start + pitch * (len(buffer) // width), pitch))
            super().read_rows(name, start, pitch, width, buffer)

    for rank in range(world):
        for source in (Watched(folder), Far(folder)):
            reading = Reading(stored.viewed(weight.viewed), shard(weight, rank, world))
            flat = torch.empty(reading.part.elements, dtype=KINDS[wanted])
            for each in reading.blocks(8 * block):  # whole numbers, as in the real one
                read_run(source, [Task(stored, each, flat)], Buffer())

            assert torch.equal(reading.shaped(flat), cut(weight, tensor, rank, world).to(KINDS[wanted]))

    parts = world if weight.axis is not None else 1
    assert len(read) == len(set(read)) * (world // parts)
    assert sum(stop - start for start, stop in set(read)) == len(content)  # each byte by one rank, and none between


@pytest.mark.parametrize("maps", [True, False])
def test_pieces_of_a_file_are_read_to_its_end_and_a_file_that_ends_before_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maps: bool
) -> None:
    (tmp_path / "f").write_bytes(content := bytes(range(256)) * 4)
    monkeypatch.setattr(mapped, "possible", lambda: maps)
    found = bytearray(5 * 100)

    Folder(tmp_path).read_rows("f", 124, 200, 100, memoryview(found))

    assert bytes(found) == b"".join(content[start : start + 100] for start in range(124, 1024, 200))
    with pytest.raises(LoadError, match="ends at byte 1024, before byte 1025; copy it again"):
        Folder(tmp_path).read_rows("f", 125, 200, 100, memoryview(found))
    with pytest.raises(LoadError, match="gone: cannot be read"):
        Folder(tmp_path).read_rows("gone", 0, 200, 100, memoryview(found))


def tasks_of(sizes: list[tuple[int, int]], limit: int) -> Iterator[Task]:
    """Tensors of a file, each some bytes behind the one before."""
    at = 0
    for gap, size in sizes:
        stored = Stored("f", f"at {at + gap}", "U8", (size,), at + gap)
        for block in Reading(stored, shard(Weight("w", (size,)), 0, 1)).blocks(limit):
            yield Task(stored, block, torch.empty(size, dtype=torch.uint8))
        at += gap + size


@pytest.mark.slow
@settings(max_examples=150, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from([0, 0, 0, 1]), st.integers(0, 30)), max_size=12), st.integers(1, 40))
def test_neighbours_in_a_file_come_by_one_read_and_never_more_than_a_block(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]], block: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    content = bytes(index % 251 for index in range(sum(gap + size for gap, size in sizes)))
    (folder / "f").write_bytes(content)
    tasks = list(tasks_of(sizes, block))
    source = Folder(folder)
    source.block = block
    parts = [tasks[run] for run in runs(tasks, source)]

    assert [task for part in parts for task in part] == tasks
    for part in parts:
        read_run(Folder(folder), part, Buffer())
        assert sum(task.block.span for task in part) <= block
    for before, part in pairwise(parts):
        together = sum(task.block.span for task in before) + part[0].block.span
        assert together > block or not part[0].follows(before[-1])
    for task in tasks:
        start = task.stored.start + task.block.first
        assert bytes(task.flat[task.block.first : task.block.last].tolist()) == content[start:][: task.block.span]


def parts_of(
    source: Source, rank: int, world: int, dtype: torch.dtype, group: Group | None, *, backwards: bool = False
) -> dict[str, Tensor]:
    """Every weight of a rank; on each other rank in another order where they are taken `backwards`."""
    checkpoint = Checkpoint.open(source, rank, world)
    names = [weight.name for weight in checkpoint.agree() if checkpoint.find(weight)]
    with Loader(checkpoint, rank, world, dtype, group=group) as loader:
        return {name: loader.take(name) for name in (names[::-1] if backwards and rank % 2 else names)}


@pytest.mark.slow
@settings(max_examples=16, derandomize=True)
@given(
    heads=st.sampled_from([4, 8]), width=st.integers(1, 5), model=st.integers(3, 40), inner=st.integers(1, 9),
    words=st.integers(61, 90), block=st.integers(1, 1000), shelves=st.integers(1, 100000),
    ahead=st.integers(0, 20000), world=st.sampled_from([2, 3, 4]), far=st.booleans(), backwards=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)  # fmt: skip
def test_ranks_that_read_for_each_other_hold_what_each_reads_for_itself(
    tmp_path_factory: pytest.TempPathFactory, heads: int, width: int, model: int, inner: int, words: int, block: int,
    shelves: int, ahead: int, world: int, far: bool, backwards: bool, dtype: torch.dtype,
) -> None:  # fmt: skip
    heads = 6 if world == 3 else heads
    folder = write_t5(
        tmp_path_factory.mktemp("any") / "t5", num_heads=heads, d_kv=width, d_model=model, d_ff=12 * inner,
        vocab_size=words, num_layers=1, num_decoder_layers=1,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "block", 8 * block)
        patch.setattr(Folder, "cast", 4 * block)
        patch.setattr(loader_module, "FEW", shelves)
        patch.setattr(loader_module, "AHEAD", ahead)
        source = Far(folder) if far else Folder(folder)
        found = on_ranks(world, lambda group: parts_of(source, group.rank, world, dtype, group, backwards=backwards))
        alone = [parts_of(Folder(folder), rank, world, dtype, None) for rank in range(world)]

    for ours, theirs in zip(found, alone, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) and ours[name].is_contiguous() for name in theirs)


def test_a_tensor_without_numbers_is_no_read(tmp_path: Path) -> None:
    reading = Reading(Stored("nowhere", "w", "F32", (0, 3), 8), shard(Weight("w", (0, 3)), 0, 1))

    assert list(reading.blocks(8)) == [] and prod(reading.part.shape) == 0
    assert list(runs([], Folder(tmp_path))) == []
