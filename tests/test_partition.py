"""Checkpoints partitioned ahead of time: bit for bit as at run time, and refused where they do not fit."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from moto import mock_aws
from safetensors.torch import load_file
from torch import Tensor

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.errors import LoadError, OptionsError, RuntimeFault
from heavylift_runtime.families.table import shard
from heavylift_runtime.native import partition as partition_module
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.partitioned import prove
from heavylift_runtime.native.s3 import Prefix
from heavylift_runtime.native.sources import Folder, Source
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.native_cores import replies_of
from tests.t5_checkpoints import write_t5

RANK = "rank-001-of-002.safetensors"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("written") / "t5")


@pytest.fixture(scope="module")
def halves(checkpoint: Path) -> Path:
    """The checkpoint, partitioned for two ranks in fp32."""
    partition(Folder(checkpoint), checkpoint.parent / "halves", 2)
    return checkpoint.parent / "halves"


@pytest.fixture
def copy(halves: Path, tmp_path: Path) -> Path:
    return shutil.copytree(halves, tmp_path / "halves")


def numbers_of(path: Path) -> bytes:
    """What comes after the header, which says of what it was made."""
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def taken(source: Source, rank: int, world: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    checkpoint = Checkpoint.open(source, rank, world)
    names = [weight.name for weight in checkpoint.agree() if checkpoint.find(weight) is not None]
    with Loader(checkpoint, rank, world, dtype) as loader:
        return {name: loader.take(name) for name in names}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in theirs
    )


@pytest.mark.parametrize(("dtype", "kind"), [("auto", torch.float32), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("degree", [1, 2, 4])
def test_every_rank_loads_what_run_time_partition_gives_it(
    checkpoint: Path, tmp_path: Path, degree: int, dtype: str, kind: torch.dtype
) -> None:
    partition(Folder(checkpoint), tmp_path / "out", degree, dtype)

    for rank in range(degree):
        assert same(taken(Folder(tmp_path / "out"), rank, degree, kind), taken(Folder(checkpoint), rank, degree, kind))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_decoder_only_family_is_partitioned_as_at_run_time(tmp_path: Path, kind: str) -> None:
    family, config = KINDS[kind]
    folder = write_decoder(tmp_path / kind, family, **config)
    whole = Checkpoint.open(Folder(folder))

    for degree in (1, 2, 4):
        if whole.family.check(whole.config, degree):  # BLOOM's six heads on four ranks, for one
            continue
        partition(Folder(folder), tmp_path / str(degree), degree)

        for rank in range(degree):
            assert same(taken(Folder(tmp_path / str(degree)), rank, degree), taken(Folder(folder), rank, degree))


def test_a_bin_is_partitioned_into_the_same_bytes(checkpoint: Path, halves: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "bin")
    tensors = load_file(folder / "model.safetensors")
    torch.save({name: tensor.t().contiguous().t() for name, tensor in tensors.items()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    partition(Folder(folder), tmp_path / "out", 2)

    assert numbers_of(tmp_path / "out" / RANK) == numbers_of(halves / RANK)


def test_partitioned_twice_it_is_the_same(checkpoint: Path, halves: Path, tmp_path: Path) -> None:
    partition(Folder(checkpoint), tmp_path / "again", 2)

    for path in halves.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("swapped", ["the two ranks' files", "another model's of the same shapes"])
def test_a_file_of_another_rank_or_model_is_refused_though_it_looks_alike(tmp_path: Path, swapped: str) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        partition(Folder(write_t5(tmp_path / name, seed=seed, vocab_size=64)), tmp_path / f"{name} in parts", 2)
    out, other = tmp_path / "a in parts", tmp_path / "b in parts"
    first = RANK.replace("001", "000", 1)
    shutil.copy(other / RANK if swapped.startswith("another") else out / first, out / RANK)

    with pytest.raises(LoadError, match=r"its header is not the one in partition\.json"):
        Checkpoint.open(Folder(out), 1, 2)


def test_the_files_are_safetensors_that_anyone_can_read(checkpoint: Path, halves: Path) -> None:
    tensors = load_file(halves / RANK)

    whole = load_file(checkpoint / "model.safetensors")
    for weight in Checkpoint.open(Folder(checkpoint)).agree():
        part = shard(weight, 1, 2)
        assert torch.equal(tensors[weight.name], whole[weight.name][tuple(map(slice, part.start, part.stop))])


def test_the_manifest_says_what_it_was_made_of_and_config_and_tokenizer_are_beside_it(
    checkpoint: Path, halves: Path
) -> None:
    manifest = json.loads((halves / "partition.json").read_text())

    assert manifest["format"] == "heavylift.partition/1"
    assert (manifest["dtype"], manifest["tensor_parallel_degree"], manifest["model_type"]) == ("fp32", 2, "t5")
    assert {file["path"] for file in manifest["files"]} | {"partition.json"} == set(os.listdir(halves))
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        assert (halves / name).read_bytes() == (checkpoint / name).read_bytes()
    assert len(manifest["source_digest"]) == 64


def test_the_source_digest_is_the_one_of_the_lock(tmp_path: Path) -> None:
    models = Path(__file__).parent.parent / "models"

    partition(Folder(models / "tiny-t5"), tmp_path / "out", 2)

    lock = json.loads((models / "tiny-t5.lock").read_text())
    manifest = json.loads((tmp_path / "out" / "partition.json").read_text())
    assert manifest["source_digest"] == lock["model"]["weights"]["digest"]


def test_the_engine_answers_from_a_partition_as_from_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    partition(Folder(checkpoint), tmp_path / "out", 1)
    request = Request("0 1 2 3", Sampling(12))

    answers = [
        replies_of(load(Options(), folder, 0, 1, ""), [request])[0].text for folder in (checkpoint, tmp_path / "out")
    ]

    assert answers[0] == answers[1]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="partitions-of-tests")
        yield client


def pushed(client: Any, folder: Path, prefix: str) -> Prefix:
    for file in folder.iterdir():
        client.put_object(Bucket="partitions-of-tests", Key=f"{prefix}/{file.name}", Body=file.read_bytes())
    return Prefix("partitions-of-tests", prefix, client)


def test_a_partition_is_made_from_s3_and_loaded_from_s3(
    checkpoint: Path, halves: Path, tmp_path: Path, bucket: Any
) -> None:
    partition(pushed(bucket, checkpoint, "whole"), tmp_path / "out", 2)
    source = pushed(bucket, halves, "halves")

    assert numbers_of(tmp_path / "out" / RANK) == numbers_of(halves / RANK)
    assert same(taken(source, 1, 2), taken(Folder(checkpoint), 1, 2))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "partition.json").read_text())
    change(manifest)
    (folder / "partition.json").write_text(json.dumps(manifest))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: edit(f, lambda m: m.update(format="heavylift.partition/2")), "format 'heavylift.partition/2' is not"),
    (lambda f: edit(f, lambda m: m.pop("dtype")), "is not readable .'dtype'.; partition the checkpoint again"),
    (lambda f: edit(f, lambda m: m.update(dtype=["fp32"])), r"dtype .'fp32'. is none of fp32, fp16, bf16"),
    (lambda f: edit(f, lambda m: m["files"].pop(0)), "is not readable .'rank-000-of-002"),
    (lambda f: edit(f, lambda m: m["files"][0].pop("header_size")), "None is not a number of at least 1"),
    (lambda f: edit(f, lambda m: m["files"][0].update(header_size=1 << 40)), "has a header of"),
    (lambda f: edit(f, lambda m: m.update(tensor_parallel_degree="2")), "'2' is not a number of at least 1"),
    (lambda f: edit(f, lambda m: m.update(pipeline_parallel_degree=2)), "rank-000-of-004.safetensors"),
    (lambda f: edit(f, lambda m: m.update(pipeline_parallel_degree=0)), "0 is not a number of at least 1"),
    (
        lambda f: edit(f, lambda m: m.update(model_type="gpt2")),
        "weights are those of a 'gpt2', its config.json",
    ),
    (lambda f: (f / "partition.json").write_text("[]"), "format None is not"),
    (lambda f: (f / "partition.json").write_text("{"), "is not readable"),
    (lambda f: (f / "partition.json").write_text("[" * 100_000), "is not readable"),
    (lambda f: (f / RANK).write_bytes((f / RANK).read_bytes()[:-1]), r"rank-001-of-002.* bytes, .* by partition.json"),
    (lambda f: (f / "rank-000-of-002.safetensors").unlink(), "is missing, though partition.json lists it"),
    (lambda f: flip(f / RANK, 40), "its header is not the one in partition.json"),
    (lambda f: flip(f / "config.json", 40), "config.json: its SHA-256 is not the one in"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE, ids=[sentence[:40] for _, sentence in DAMAGE])
def test_a_damaged_partition_is_refused_with_a_sentence(
    copy: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    damage(copy)

    with pytest.raises(LoadError, match=sentence):
        Checkpoint.open(Folder(copy), 1, 2).agree()


def test_another_degree_another_dtype_and_another_model_are_refused(halves: Path, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"for tensor_parallel_degree 2, not 4; set tensor_parallel_degree to 2"):
        Checkpoint.open(Folder(halves), 0, 4)
    with pytest.raises(LoadError, match=r"partitioned in fp32, not bf16; set 'dtype' to 'fp32' or 'auto'"):
        taken(Folder(halves), 0, 2, torch.bfloat16)
    other = write_t5(tmp_path / "other", d_ff=72)
    partition(Folder(other), tmp_path / "other-halves", 2)
    for name in os.listdir(tmp_path / "other-halves"):
        if name != "config.json":
            shutil.copy(tmp_path / "other-halves" / name, copy / name)

    with pytest.raises(LoadError, match=r"config.json: .*its SHA-256|config.json: has .* bytes"):
        Checkpoint.open(Folder(copy), 0, 2)


def test_a_flipped_bit_in_the_weights_is_found_by_the_check_of_all_digests(copy: Path) -> None:
    prove(Folder(copy))
    flip(copy / RANK, -5)

    with pytest.raises(LoadError, match=f"{RANK}: its SHA-256 is not the one in partition.json"):
        prove(Folder(copy))
    with pytest.raises(LoadError, match=r"has no partition.json"):
        prove(Folder(copy.parent))


def test_what_cannot_be_partitioned_is_said_before_anything_is_written(
    checkpoint: Path, halves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    refused: list[tuple[Path, int, str, str]] = [
        (checkpoint, 0, "auto", "--tensor-parallel-degree is 0; it must be at least 1"),
        (checkpoint, 3, "auto", "tensor_parallel_degree 3 does not divide 'num_heads' 4"),
        (checkpoint, 2, "int8", "--dtype is 'int8', the weights are F32; it must be 'auto' or one of 'fp32'"),
        (halves, 2, "auto", "is partitioned already"),
    ]
    for source, degree, dtype, sentence in refused:
        with pytest.raises(OptionsError, match=sentence):
            partition(Folder(source), out, degree, dtype)
        assert not out.exists()

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    monkeypatch.setattr(partition_module, "source_digest", lambda *_: pytest.fail("all of the source was read first"))
    with pytest.raises(OptionsError, match=r"--out .*: needs 0.00 GB, 0.00 GB are free"):
        partition(Folder(checkpoint), out, 2)


def test_a_folder_that_holds_something_else_is_left_as_it_is(checkpoint: Path, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="holds a partition already"):
        partition(Folder(checkpoint), copy, 2)
    with pytest.raises(OptionsError, match=r"holds 'config.json'; name an empty folder"):
        partition(Folder(checkpoint), checkpoint, 2)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionsError, match="cannot be made a folder"):
        partition(Folder(checkpoint), tmp_path / "file", 2)
    (tmp_path / "busy").mkdir()
    held = os.open(tmp_path / "busy", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(OptionsError, match="another process writes there"):
        partition(Folder(checkpoint), tmp_path / "busy", 2)
    os.close(held)


def test_a_run_that_ends_early_leaves_no_manifest_and_the_next_one_begins_anew(
    checkpoint: Path, halves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(partition_module, "Partition", lambda *_: (_ for _ in ()).throw(RuntimeFault("no disk")))
        with pytest.raises(RuntimeFault, match="no disk"):
            partition(Folder(checkpoint), out, 2)
    assert not (out / "partition.json").exists()
    with pytest.raises(LoadError):
        Checkpoint.open(Folder(out), 0, 2)
    assert (out / "config.json").exists() and (out / "partition.json.unfinished").exists()
    (out / f"{RANK}.unfinished").write_text("killed while it wrote this")

    partition(Folder(checkpoint), out, 2)

    assert sorted(os.listdir(out)) == sorted(os.listdir(halves))
    assert all((out / name).read_bytes() == (halves / name).read_bytes() for name in os.listdir(out))


@pytest.mark.slow
def test_the_command_partitions_proves_and_refuses(checkpoint: Path, tmp_path: Path) -> None:
    def heavylift(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "heavylift.cli", "partition", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)

    made = heavylift(str(checkpoint), "--out", "out", "--tensor-parallel-degree", "2", "--dtype", "bf16")
    proved = heavylift("out", "--check")
    incomplete = heavylift(str(checkpoint))

    assert made.returncode == 0, made.stderr
    assert "(100 %)" in made.stderr and made.stderr.rstrip().endswith("in bf16")
    assert proved.returncode == 0, proved.stderr
    assert incomplete.returncode == 2
    assert incomplete.stderr.splitlines() == [
        "--out is missing; `partition` needs it", "--tensor-parallel-degree is missing; `partition` needs it"
    ]  # fmt: skip
