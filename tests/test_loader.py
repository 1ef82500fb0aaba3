"""The loader: the parts of all ranks are the checkpoint bit for bit, from disk and from S3. Not bad files:
test_loader_faults.py.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from moto import mock_aws
from safetensors.torch import load_file, save_file
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.table import Split
from heavylift_runtime.native import loader as loader_module
from heavylift_runtime.native import mapped
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.s3 import Prefix
from heavylift_runtime.native.sources import Folder, Source, source_of
from tests.decoder_checkpoints import KINDS as DECODERS
from tests.decoder_checkpoints import write_decoder
from tests.rank_threads import on_ranks
from tests.t5_checkpoints import edit_tensors, write_t5

BUCKET = "weights-of-tests"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("written") / "t5")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "t5")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


def push(client: Any, folder: Path, prefix: str) -> Prefix:
    for file in folder.iterdir():
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{file.name}", Body=file.read_bytes())
    return Prefix(BUCKET, prefix, client)


def taken(source: Source, rank: int, world: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Every weight of one rank, in the table's order."""
    checkpoint = Checkpoint.open(source)
    names = [weight.name for weight in checkpoint.agree() if checkpoint.find(weight) is not None]
    with Loader(checkpoint, rank, world, dtype) as loader:
        return {name: loader.take(name) for name in names}


def assembled(source: Source, world: int) -> dict[str, Tensor]:
    """The parts of all ranks, put together by the table."""
    parts = [taken(source, rank, world) for rank in range(world)]
    axes = {weight.name: weight.axis for weight in Checkpoint.open(source).agree()}
    whole = {}
    for name in parts[0]:
        axis = axes[name]
        if axis is None:
            assert all(torch.equal(part[name], parts[0][name]) for part in parts)
        whole[name] = parts[0][name] if axis is None else torch.cat([part[name] for part in parts], axis)
    return whole


def shard_files(folder: Path) -> None:
    """Splits model.safetensors into three files with an index, as large checkpoints are published."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"model-0000{place % 3 + 1}-of-00003.safetensors" for place, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_manifest(folder: Path) -> None:
    files = [
        {"path": f.name, "size": f.stat().st_size, "sha256": hashlib.sha256(f.read_bytes()).hexdigest()}
        for f in folder.iterdir()
    ]
    manifest = {"format": "heavylift.manifest/1", "digest": "0" * 64, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("block", [7 * 24 * 4, 2**23])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_parts_of_all_ranks_are_the_file_bit_for_bit(
    folder: Path, world: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, "block", block)  # seven rows of most weights, or all

    whole = assembled(Folder(folder), world)

    expected = load_file(folder / "model.safetensors")
    assert whole.keys() == expected.keys()
    assert all(torch.equal(whole[name], expected[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [0, 2**26])
@pytest.mark.parametrize("world", [1, 2])
def test_weights_stream_from_s3_the_same(
    folder: Path, bucket: Any, world: int, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "AHEAD", ahead)
    shard_files(folder)
    source = push(bucket, folder, "weights/abc")

    whole = assembled(source, world)

    for file in folder.glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            assert torch.equal(whole.pop(name), tensor)
    assert not whole


def test_a_rank_reads_of_a_column_split_weight_only_its_own_bytes(folder: Path) -> None:
    reads: list[tuple[int, int]] = []

    class Watched(Folder):
        def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
            reads.append((start, start + sum(map(len, buffers))))
            super().read_into(name, start, *buffers)

    checkpoint = Checkpoint.open(Watched(folder))
    table = [weight for weight in checkpoint.agree() if weight.split in (Split.COLUMN, Split.VOCABULARY)]
    reads.clear()
    with pytest.raises(RuntimeError, match="enough"), Loader(checkpoint, 1, 2, torch.float32) as loader:
        for weight in table:
            loader.take(weight.name)
        raise RuntimeError("enough")

    for weight in table:
        stored = checkpoint.find(weight)
        assert stored is not None
        middle, end = stored.start + stored.bytes // 2, stored.start + stored.bytes
        inside = [(start, stop) for start, stop in reads if stored.start <= start < end]
        assert inside
        assert all(middle - 24 * 4 <= start and stop <= end for start, stop in inside)


@pytest.mark.parametrize("stored", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_are_cast_while_they_are_read(folder: Path, stored: torch.dtype) -> None:
    edit_tensors(folder, lambda tensors: {name: tensor.to(stored) for name, tensor in tensors.items()})

    parts = taken(Folder(folder), 0, 1, torch.bfloat16)

    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(parts[name], tensor.to(torch.bfloat16))


@pytest.mark.parametrize("name", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"])
def test_an_embedding_under_a_stacks_own_name_is_found(folder: Path, name: str) -> None:
    edit_tensors(folder, lambda tensors: {name if key == "shared.weight" else key: tensors[key] for key in tensors})

    parts = taken(Folder(folder), 0, 1)

    assert torch.equal(parts["shared.weight"], load_file(folder / "model.safetensors")[name])


def test_a_copy_of_the_embedding_is_accepted_only_when_it_is_one(folder: Path) -> None:
    name = "encoder.embed_tokens.weight"
    edit_tensors(folder, lambda tensors: {**tensors, name: tensors["shared.weight"].clone()})
    assert name not in taken(Folder(folder), 1, 2)
    edit_tensors(folder, lambda tensors: {**tensors, name: tensors[name] + 1})

    with pytest.raises(LoadError, match=r"tensor 'encoder.embed_tokens.weight' differs from 'shared.weight'"):
        taken(Folder(folder), 1, 2)


def test_the_position_bias_that_nothing_uses_is_passed_over(folder: Path) -> None:
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    edit_tensors(folder, lambda tensors: {**tensors, name: torch.zeros(8, 4)})

    assert name not in taken(Folder(folder), 0, 1)


def test_a_weight_that_the_forward_pass_leaves_over_is_named(folder: Path) -> None:
    checkpoint = Checkpoint.open(Folder(folder))

    with pytest.raises(AssertionError, match=r"uses no.*lm_head"), Loader(checkpoint, 0, 1, torch.float32) as loader:
        loader.take("shared.weight")
    with pytest.raises(AssertionError, match="taken before"), Loader(checkpoint, 0, 1, torch.float32) as loader:
        loader.take("shared.weight")
        loader.take("shared.weight")


def test_progress_is_reported_in_tenths_up_to_all(folder: Path) -> None:
    lines: list[str] = []
    checkpoint = Checkpoint.open(Folder(folder))

    with Loader(checkpoint, 0, 1, torch.float32, lines.append) as loader:
        for weight in checkpoint.agree():
            loader.take(weight.name)

    assert lines[-1].endswith("(100 %)")
    assert 5 < len(lines) <= 10


@pytest.mark.parametrize("collects", [True, False])
def test_the_garbage_collector_rests_while_a_checkpoint_is_loaded(
    folder: Path, collects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    for name in ("disable", "enable"):
        monkeypatch.setattr(gc, name, lambda name=name: seen.append(name))
    monkeypatch.setattr(gc, "isenabled", lambda: collects)
    checkpoint = Checkpoint.open(Folder(folder))

    with pytest.raises(RuntimeError, match="enough"), Loader(checkpoint, 0, 1, torch.float32):
        assert seen == ["disable"]
        raise RuntimeError("enough")

    assert seen == ["disable", *(["enable"] if collects else [])]


def test_what_s3_refuses_is_said_with_the_place(bucket: Any, folder: Path) -> None:
    with pytest.raises(LoadError, match=r"s3://weights-of-tests/nothing/: there is nothing under this prefix"):
        Checkpoint.open(Prefix(BUCKET, "nothing", bucket))
    with pytest.raises(LoadError, match=r"s3://no-such-bucket/a/: cannot list the model's files: .*NoSuchBucket"):
        Checkpoint.open(Prefix("no-such-bucket", "a", bucket))

    source = push(bucket, folder, "weights/abc")
    checkpoint = Checkpoint.open(source)
    bucket.delete_object(Bucket=BUCKET, Key="weights/abc/model.safetensors")
    with (
        pytest.raises(LoadError, match=r"s3://weights-of-tests/weights/abc/model.safetensors: cannot be read"),
        Loader(checkpoint, 0, 1, torch.float32) as loader,
    ):
        loader.take("shared.weight")


@pytest.mark.parametrize("maps", [True, False])
def test_what_is_brought_near_changes_nothing_and_is_never_a_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch, maps: bool
) -> None:
    monkeypatch.setattr(mapped, "possible", lambda: maps)
    told, some = set[tuple[int, int]](), threading.Event()

    class Watched(Folder):
        def ahead(self, name: str, start: int, size: int) -> None:
            super().ahead(name, start, size)
            told.add((start, size))
            some.set()

        def read_rows(self, name: str, start: int, pitch: int, width: int, buffer: memoryview) -> None:
            assert some.wait(60)
            super().read_rows(name, start, pitch, width, buffer)

    found = taken(Watched(folder), 1, 2)
    Folder(folder).ahead("nothing", 0, 10)

    checkpoint = Checkpoint.open(Folder(folder))
    held = [checkpoint.readings(weight, 1, 2)[0] for weight in checkpoint.agree()]
    assert told <= {(block.start, block.span) for reading in held for block in reading.blocks(Folder.block)}
    assert all(torch.equal(found[name], tensor) for name, tensor in taken(Folder(folder), 1, 2).items())


def test_ranks_bring_rows_near_in_turn_and_each_what_it_alone_needs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AtOnce(ThreadPoolExecutor):
        def submit(self, function: Any, /, *given: Any, **named: Any) -> Future[Any]:
            done = Future[Any]()
            done.set_result(function(*given, **named))
            return done

    monkeypatch.setattr(loader_module, "ThreadPoolExecutor", AtOnce)
    told: list[tuple[int, int]] = []

    class Watched(Folder):
        def ahead(self, name: str, start: int, size: int) -> None:
            told.append((start, size))

    checkpoint = Checkpoint.open(Folder(folder))
    whole, rows = set[tuple[int, int]](), set[tuple[int, int]]()
    for rank in range(2):
        taken(Watched(folder), rank, 2)
        for weight in checkpoint.agree():
            for block in checkpoint.readings(weight, rank, 2)[0].blocks(Folder.block):
                (whole if block.gapless else rows).add((block.start, block.span))

    assert set(told) - rows == whole
    assert 2 * len([each for each in told if each in rows]) == len(rows) > 0


def test_files_are_listed_with_those_in_folders_and_a_missing_folder_is_said(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "README.txt").write_text("text")

    files = Folder(folder).files()

    assert files["more/README.txt"] == 4
    assert files["config.json"] == (folder / "config.json").stat().st_size
    with pytest.raises(LoadError, match=r"nowhere: cannot list the model's folder: No such file"):
        Folder(folder / "nowhere").files()


def test_where_the_weights_are_is_read_from_model_id(tmp_path: Path, folder: Path, bucket: Any) -> None:
    assert source_of(None, folder).place == str(folder)
    assert source_of("t5", tmp_path).place == str(folder)
    assert source_of(str(folder), tmp_path / "elsewhere").place == str(folder)
    assert source_of("s3://b/weights/abc", tmp_path).place == "s3://b/weights/abc/"
    assert source_of("google/flan-t5-xxl", tmp_path).place == "google/flan-t5-xxl@main"
    assert source_of("google/flan-t5-xxl@refs/pr/7", tmp_path).place == "google/flan-t5-xxl@refs/pr/7"
    for wrong in ("flan-t5-xxl", "s3://", "s3:///a", "../t5/nothing", "a/b/c", "a/b@", "./a", "https://a/b"):
        with pytest.raises(LoadError, match="'model_id' is"):
            source_of(wrong, tmp_path)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("kind", ["t5", "gpt2", "opt"])
def test_ranks_read_for_each_other_so_that_s3_sends_the_checkpoint_once(
    tmp_path: Path, bucket: Any, kind: str, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, config = DECODERS.get(kind, ("", {}))
    made = write_decoder(tmp_path / "m", family, **config) if family else write_t5(tmp_path / "m")
    source = push(bucket, made, "weights/abc")
    sent: list[int] = []
    read_into = Prefix.read_into

    def counted(self: Prefix, name: str, start: int, *buffers: memoryview) -> None:
        sent.append(sum(map(len, buffers)))
        read_into(self, name, start, *buffers)

    def load(group: Group) -> dict[str, Tensor]:
        checkpoint = Checkpoint.open(source)
        sent.clear()
        names = [weight.name for weight in checkpoint.agree() if checkpoint.find(weight) is not None]
        group.barrier()
        with Loader(checkpoint, group.rank, world, torch.float32, group=group) as loader:
            return {name: loader.take(name) for name in names}

    monkeypatch.setattr(Prefix, "read_into", counted)
    found = on_ranks(world, load)

    for rank in range(world):
        here = taken(Folder(made), rank, world)
        assert all(torch.equal(found[rank][name], here[name]) for name in here)
    checkpoint = Checkpoint.open(Folder(made))
    split = {weight.name for weight in checkpoint.agree() if weight.axis is not None}
    stored = [checkpoint.find(weight) for weight in checkpoint.agree()]
    once = sum(tensor.bytes for tensor in stored if tensor is not None)
    whole = sum(tensor.bytes for tensor in stored if tensor is not None and tensor.name not in split)
    assert sum(sent) <= once + whole * (world - 1)
