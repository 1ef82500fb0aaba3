"""PyTorch .bin checkpoints, read in ranges without unpickling: torch.load(weights_only=True) is the oracle."""

from __future__ import annotations

import collections
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.table import Shard
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.pickled import table_of
from heavylift_runtime.native.reading import DTYPES, Buffer, Reading, Task, read_run
from heavylift_runtime.native.sources import Folder
from heavylift_runtime.native.torch_bin import read_archive
from tests.t5_checkpoints import write_t5

FILE = "pytorch_model.bin"
Q = "encoder.block.0.layer.0.SelfAttention.q.weight"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("written") / "t5")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A T5 with a .bin instead of safetensors."""
    folder = shutil.copytree(written, tmp_path / "t5")
    torch.save(load_file(folder / "model.safetensors"), folder / FILE)
    (folder / "model.safetensors").unlink()
    return folder


def taken(folder: Path, rank: int, world: int) -> dict[str, Tensor]:
    checkpoint = Checkpoint.open(Folder(folder))
    with Loader(checkpoint, rank, world, torch.float32) as loader:
        return {weight.name: loader.take(weight.name) for weight in checkpoint.agree() if checkpoint.find(weight)}


def read(folder: Path, file: str = FILE) -> dict[str, Tensor]:
    """Every tensor of an archive whole, by our own reader; those of whole numbers are left out."""
    source = Folder(folder)
    tensors = {}
    for name, stored in read_archive(source, file, (folder / file).stat().st_size).items():
        if stored.dtype in DTYPES:
            reading = Reading(stored, Shard((0,) * len(stored.shape), stored.shape))
            flat = torch.empty(reading.part.elements, dtype=DTYPES[stored.dtype])
            for block in reading.blocks(source.block):
                read_run(source, [Task(stored, block, flat)], Buffer())
            tensors[name] = reading.shaped(flat)
    return tensors


@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_rank_takes_from_a_bin_what_it_takes_from_safetensors(written: Path, folder: Path, world: int) -> None:
    for rank in range(world):
        expected, parts = taken(written, rank, world), taken(folder, rank, world)

        assert parts.keys() == expected.keys()
        assert all(torch.equal(parts[name], expected[name]) for name in parts)


def test_a_transposed_matrix_is_split_as_the_matrix_it_stands_for(written: Path, folder: Path) -> None:
    tensors = torch.load(folder / FILE, weights_only=True)
    turned = {name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in tensors.items()}
    torch.save(turned, folder / FILE)
    assert not turned[Q].is_contiguous()

    parts, expected = taken(folder, 1, 2), taken(written, 1, 2)

    assert all(torch.equal(parts[name], expected[name]) and parts[name].is_contiguous() for name in expected)


def test_tensors_that_share_a_storage_are_read_once(written: Path, folder: Path) -> None:
    tensors = torch.load(folder / FILE, weights_only=True)
    torch.save({**tensors, "encoder.embed_tokens.weight": tensors["shared.weight"]}, folder / FILE)
    reads: list[int] = []

    class Counted(Folder):
        def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
            reads.append(sum(map(len, buffers)))
            super().read_into(name, start, *buffers)

    checkpoint = Checkpoint.open(Counted(folder))
    reads.clear()
    with Loader(checkpoint, 0, 1, torch.float32) as loader:
        for weight in checkpoint.agree():
            loader.take(weight.name)

    assert sum(reads) == sum(tensor.nbytes for tensor in tensors.values())


def test_an_index_of_bins_is_followed(written: Path, folder: Path) -> None:
    tensors = torch.load(folder / FILE, weights_only=True)
    (folder / FILE).unlink()
    weight_map = {name: f"pytorch_model-0000{place % 2 + 1}-of-00002.bin" for place, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        torch.save(collections.OrderedDict((n, tensors[n]) for n in tensors if weight_map[n] == file), folder / file)
    (folder / f"{FILE}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    parts, expected = taken(folder, 0, 2), taken(written, 0, 2)

    assert all(torch.equal(parts[name], expected[name]) for name in expected)
    weight_map[Q] = "model.safetensors"
    (folder / f"{FILE}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(LoadError, match=r"it must be a \*.bin file beside the index"):
        Checkpoint.open(Folder(folder))


def test_what_torch_saves_of_a_module_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5)).bfloat16()
    torch.save(
        module.state_dict() | {"p": torch.nn.Parameter(torch.randn(2, 2)), "0-d": torch.tensor(3.5)}, tmp_path / FILE
    )

    tensors = read(tmp_path)

    expected = torch.load(tmp_path / FILE, weights_only=True)
    assert expected.keys() - tensors.keys() == {"1.num_batches_tracked"}
    assert all(torch.equal(tensors[n], expected[n]) and tensors[n].dtype == expected[n].dtype for n in tensors)


@st.composite
def views(draw: st.DrawFn) -> Tensor:
    """A tensor as programs leave them: sliced, permuted, narrowed, with neighbours in the same storage."""
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    dtype = draw(st.sampled_from(list(DTYPES.values())))
    tensor = torch.arange(int(torch.tensor(shape).prod()) if shape else 1).to(dtype).view(shape)
    for axis, size in enumerate(shape):
        first = draw(st.integers(0, size))
        tensor = tensor.narrow(axis, first, draw(st.integers(0, size - first)))
    return tensor.permute(draw(st.permutations(range(len(shape)))))


@settings(max_examples=60, derandomize=True)
@given(st.dictionaries(st.text(max_size=6), views(), min_size=1, max_size=4))
def test_any_views_are_read_as_torch_reads_them(tmp_path_factory: pytest.TempPathFactory, table: Any) -> None:
    folder = tmp_path_factory.mktemp("views")
    torch.save(table, folder / FILE)

    tensors = read(folder)

    expected = torch.load(folder / FILE, weights_only=True)
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert all(tensors[name].dtype == expected[name].dtype for name in expected)


class Commands:
    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


def with_pickle(folder: Path, content: bytes) -> None:
    """The archive with another data.pkl."""
    with zipfile.ZipFile(folder / FILE) as old:
        entries = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(folder / FILE, "w") as new:
        for name, old_content in entries.items():
            new.writestr(name, content if name.endswith("/data.pkl") else old_content)


def stored(offset: int = 0, shape: bytes = b"K\x18", count: bytes = b"K\x18", stride: bytes = b"K\x01") -> bytes:
    """A pickle of one vector `a` in storage 0."""
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + count + b"tQ"
    made = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K" + bytes([offset]) + shape + b"\x85" + stride + b"\x85"
    )
    return b"\x80\x02}X\x01\0\0\0a" + made + b"\x89NtRs."


HOSTILE: list[tuple[bytes, str]] = [
    (pickle.dumps({"a": Commands()}, 2), "asks for 'posix.system', which is no tensor; .* nothing is executed"),
    (pickle.dumps({"a": Commands()}, 4), "has protocol 4; torch.save writes 2"),
    (pickle.dumps({"a": torch.device}, 2), "asks for 'torch.device'"),
    (b"\x80\x02cbuiltins\neval\nX\x03\0\0\x001+1\x85R.", "asks for 'builtins.eval'"),
    (b"\x80\x02(i__builtin__\neval\n.", "uses opcode 0x69, which no state_dict needs"),
    (b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\1" * 100 + b".", "uses opcode 0x8b"),
    (b"\x80\x02X\xff\xff\xff\xff.", "is no pickle of torch.save; it is corrupt"),
    (b"\x80\x02}r\xff\xff\xff\xff0.", "uses opcode 0x30"),
    (b"\x80\x02h\x07.", "is no pickle of torch.save"),
    (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "holds a list, not a table"),
    (b"\x80\x02" + b")" + b"\x85" * 100_000 + b".", "holds a tuple, not a table"),
    (b"\x80\x02]q\0h\0a.", "holds a list, not a table"),
    (b"\x80\x02}q\0X\x01\0\0\0ah\0s.", "entry 'a' is a dict, not a tensor"),
    (b"\x80\x02}K\x01K\x02s.", "has a int for the name of an entry"),
    (b"\x80\x02}]K\x02s.", "has a list for the name of an entry"),
    (b"\x80\x02}(t.", "holds a tuple, not a table"),
    (b"\x80\x02t.", "is no pickle of torch.save"),
    (b"\x80\x02}X\x01\0\0\0aX\x01\0\0\0bQs.", "refers to something outside itself that is no storage"),
    (b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", "rebuilds a tensor from something that is none"),
    (b"\x80\x02}", "is no pickle of torch.save"),
    (b"", "is no pickle of torch.save"),
    (stored(offset=200, shape=b"K\x01"), r"shape \[1\] that ends at number 201 of a storage of 24"),
    (stored(shape=b"J\xff\xff\xff\xff"), "shape, strides or offset are no sizes"),
    (stored(shape=b"\x8a\xff" + b"\x7f" * 255), "shape, strides or offset are no sizes"),
    (stored(shape=b"X\x01\0\0\0a"), "shape, strides or offset are no sizes"),
    (stored(stride=b"K\0"), r"strides \[0\], so numbers of it share a place"),
    (stored(count=b"K\x19"), "is in a storage of 25 F32, which has"),
    (
        stored().replace(b"\0\x000X\x03", b"\0\x009X\x03"),
        "is in data/9, which the archive does not have|is in a storage",
    ),
]


@pytest.mark.parametrize(("content", "sentence"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_pickle_is_refused_and_nothing_in_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.zeros(24)}, tmp_path / FILE)
    with_pickle(tmp_path, content)

    with pytest.raises(LoadError, match=f"{FILE}: .*{sentence}"):
        read(tmp_path)
    assert not (tmp_path / "hacked").exists()


CODES = [bytes([code]) for code in b"}]()N\x88\x89KMJXq\x85tuseaQRb\x8a"]
WORDS = [*CODES, b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"q\0", b"h\0", b"K\1"]


@settings(max_examples=300, derandomize=True)
@given(st.binary(max_size=60) | st.lists(st.sampled_from(WORDS)).map(b"".join))
def test_whatever_a_pickle_holds_it_is_a_table_or_a_sentence(content: bytes) -> None:
    try:
        table = table_of(b"\x80\x02" + content + b".", FILE)
    except LoadError as error:
        assert str(error).startswith(f"{FILE}: ")
    else:
        assert not table


def repacked(folder: Path, **options: Any) -> None:
    with zipfile.ZipFile(folder / FILE) as old:
        entries = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(folder / FILE, "w", **options) as new:
        for name, content in entries.items():
            new.writestr(name, content)


def changed(folder: Path, name: str, content: bytes | None) -> None:
    with zipfile.ZipFile(folder / FILE) as old:
        entries = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(folder / FILE, "w") as new:
        for old_name, old_content in entries.items():
            if not old_name.endswith(name) or content is not None:
                new.writestr(old_name, content if old_name.endswith(name) and content is not None else old_content)


def legacy(folder: Path) -> None:
    torch.save({"a": torch.zeros(2)}, folder / FILE, _use_new_zipfile_serialization=False)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (legacy, "is no zip archive: truncated, or written by torch before 1.6; save it again"),
    (lambda f: (f / FILE).write_bytes(b""), "is empty"),
    (lambda f: (f / FILE).write_bytes((f / FILE).read_bytes()[:-100]), "is no readable zip archive"),
    (lambda f: (f / FILE).write_bytes((f / FILE).read_bytes()[:2000] + (f / FILE).read_bytes()[3000:]), "corrupt"),
    (lambda f: repacked(f, compression=zipfile.ZIP_DEFLATED), "is compressed or encrypted"),
    (lambda f: changed(f, "/byteorder", b"big"), "its numbers are not little-endian"),
    (lambda f: changed(f, "/data/3", b"short"), "which has 5 bytes"),
    (lambda f: changed(f, "/data/3", None), "is in data/3, which the archive does not have"),
    (lambda f: changed(f, "/data.pkl", None), "has 0 files data.pkl"),
    (lambda f: changed(f, "/data.pkl", bytes(9 << 20)), "at most 8388608 are read"),
    (lambda f: torch.save([torch.zeros(2)], f / FILE), "holds a list, not a table of tensors"),
    (lambda f: torch.save({"model": {"a": torch.zeros(2)}}, f / FILE), "entry 'model' is a dict, not a tensor"),
    (lambda f: torch.save({"a": torch.zeros(1).expand(4, 4)}, f / FILE), "numbers of it share a place"),
    (lambda f: torch.save({"a": torch._neg_view(torch.ones(4))}, f / FILE), "are to be negated or conjugated"),
    (lambda f: torch.save({"a": torch.zeros(4).to(torch.float8_e4m3fn)}, f / FILE), "asks for 'torch.*is no tensor"),
    (lambda f: torch.save(torch.nn.Linear(2, 2), f / FILE), "asks for 'torch.nn.modules.linear.Linear'"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE, ids=[sentence[:40] for _, sentence in DAMAGE])
def test_an_archive_that_cannot_be_read_in_ranges_is_refused_with_a_sentence(
    folder: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    damage(folder)

    with pytest.raises(LoadError, match=sentence):
        Checkpoint.open(Folder(folder)).agree()


@settings(max_examples=150, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_byte_flipped_anywhere_is_refused_or_changes_one_tensor(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    torch.save({"a": torch.zeros(8), "b": torch.zeros(2, 3)}, folder / FILE)
    content = bytearray((folder / FILE).read_bytes())
    content[place % len(content)] = value
    (folder / FILE).write_bytes(content)

    try:
        tensors = read(folder)
    except LoadError as error:
        assert str(error).startswith(FILE)
    else:
        assert sum(not torch.equal(tensor, torch.zeros_like(tensor)) for tensor in tensors.values()) <= 1
