"""Inspecting a model where it lies: what belongs to it, what it holds, and what is wrong with it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from heavylift.errors import HeavyliftError, InputError
from heavylift.plan.digest import File, digest
from heavylift.plan.lock import Partitioned
from heavylift.spec import ModelSpec
from heavylift.weights import inspect
from heavylift.weights.store import Folder, belonging
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.sources import Folder as Source

FP16 = {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}


def safetensors(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def model(folder: Path, **files: bytes) -> ModelSpec:
    """A small model in `folder`/m; keyword names have `__` for a dot."""
    (folder / "m").mkdir(exist_ok=True)
    whole = {"config__json": b'{"model_type": "t5"}', "model__safetensors": safetensors({"w": FP16}, bytes(12))}
    for name, content in {**whole, **files}.items():
        (folder / "m" / name.replace("__", ".")).write_bytes(content)
    return spec_of({"path": "m"})


def spec_of(source: dict[str, str]) -> ModelSpec:
    return ModelSpec.model_validate({"name": "x", "model": source})


def faults(folder: Path, **files: bytes) -> list[str]:
    spec = model(folder, **files)
    with pytest.raises(InputError) as caught:
        inspect(spec, folder)
    return [fault.replace(f"{folder}/", "") for fault in caught.value.faults]


def test_tiny_t5_is_what_its_headers_say(tiny_t5: Path) -> None:
    lock = inspect(spec_of({"path": "tiny-t5"}), tiny_t5.parent)

    names = [file.path for file in lock.model.weights.files]
    assert names == sorted(path.name for path in tiny_t5.iterdir())
    assert (lock.model.dtype, lock.model.config is not None) == ("fp32", True)
    assert lock.model.weights.bytes == sum(path.stat().st_size for path in tiny_t5.iterdir())


def test_dtype_parameters_and_digest_come_from_the_files(tmp_path: Path) -> None:
    spec = model(tmp_path, spiece__model=b"sp", README__md=b"no", optimizer__bin=b"no")

    lock = inspect(spec, tmp_path)

    files = [File.of(path.name, path.read_bytes()) for path in (tmp_path / "m").iterdir()]
    kept = [file for file in files if file.path not in ("README.md", "optimizer.bin")]
    assert [file.path for file in lock.model.weights.files] == ["config.json", "model.safetensors", "spiece.model"]
    assert (lock.model.dtype, lock.model.parameters, lock.code) == ("fp16", 6, None)
    assert lock.model.weights.digest == digest(kept)


def test_the_same_bytes_have_the_same_digest_elsewhere(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    first = inspect(model(tmp_path / "a"), tmp_path / "a")
    second = inspect(model(tmp_path / "b"), tmp_path / "b")

    assert first == second


def test_progress_ends_with_all_bytes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    lock = inspect(model(tmp_path), tmp_path, progress=lambda done, total: seen.append((done, total)))

    assert seen[-1] == (lock.model.weights.bytes, lock.model.weights.bytes)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (safetensors({"w": FP16}, bytes(11)), "m/model.safetensors is truncated: its header describes"),
        (safetensors({"w": FP16}, bytes(13)), "m/model.safetensors is damaged: its header describes"),
        (safetensors({"w": FP16}, bytes(12))[:30], "m/model.safetensors is truncated in its header: it has 30 bytes"),
        (b"", "m/model.safetensors is not a safetensors file"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "m/model.safetensors is not a safetensors file (or a Git LFS",
        ),
        (struct.pack("<Q", 2) + b"[]", "m/model.safetensors has a damaged safetensors header"),
        (safetensors({"w": {"dtype": "F16"}}, b""), "m/model.safetensors has a damaged safetensors header"),
        (safetensors({"w": {**FP16, "shape": "x"}}, bytes(12)), "m/model.safetensors has a damaged safetensors header"),
    ],
)
def test_weights_that_are_not_whole_are_named(tmp_path: Path, content: bytes, fault: str) -> None:
    found = faults(tmp_path, model__safetensors=content)

    assert len(found) == 1 and found[0].startswith(fault), found


@settings(max_examples=100)
@given(raw=st.binary(max_size=80), cut=st.integers(0, 200))
def test_no_bytes_in_a_weight_file_raise_anything_but_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, cut: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    folder.mkdir(exist_ok=True)
    whole = safetensors({"w": FP16}, bytes(12))
    for content in (raw, whole[:cut] + raw):
        spec = model(folder, model__safetensors=content)
        if content == whole:
            continue
        try:
            inspect(spec, folder)
        except InputError as error:
            assert error.faults


def test_every_damaged_file_is_named_at_once(tmp_path: Path) -> None:
    found = faults(tmp_path, a__safetensors=b"", model__safetensors=b"")

    assert [fault.split(" ")[0] for fault in found] == ["m/a.safetensors", "m/model.safetensors"]


def index(**places: str) -> bytes:
    return json.dumps({"weight_map": {name: place.replace("__", ".") for name, place in places.items()}}).encode()


def test_a_shard_that_the_index_names_must_be_there_with_its_tensors(tmp_path: Path) -> None:
    shards = {"w": "model__safetensors", "v": "other__safetensors"}

    missing = faults(tmp_path, **{"model.safetensors.index__json": index(**shards)})
    lost = faults(tmp_path, **{"model.safetensors.index__json": index(w="model__safetensors", v="model__safetensors")})

    assert missing == ["m/model.safetensors.index.json names other.safetensors, which is missing: download it"]
    assert lost == ["m/model.safetensors.index.json names 1 tensors that its files have not, 'v' first"]


def test_an_index_that_is_none_and_a_config_that_is_none_are_named(tmp_path: Path) -> None:
    assert faults(tmp_path, **{"model.safetensors.index__json": b"[]"})[0].endswith("it has no 'weight_map' of names")
    (tmp_path / "m" / "model.safetensors.index.json").unlink()
    assert faults(tmp_path, config__json=b'{"a": NaN}')[0].startswith("m/config.json is not JSON: NaN is not a JSON")
    assert faults(tmp_path, config__json=b"[]") == ["m/config.json must be a JSON object; download it again"]


def test_bin_files_count_where_there_is_no_safetensors_and_are_never_unpickled(tmp_path: Path) -> None:
    archive = b"PK\x03\x04" + b"data" + b"PK\x05\x06" + bytes(18)
    spec = model(tmp_path, pytorch_model__bin=archive, config__json=b'{"torch_dtype": "float16"}')
    (tmp_path / "m" / "model.safetensors").unlink()

    lock = inspect(spec, tmp_path)

    assert [file.path for file in lock.model.weights.files] == ["config.json", "pytorch_model.bin"]
    assert (lock.model.dtype, lock.model.parameters) == ("fp16", None)
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(archive[:-1])
    with pytest.raises(InputError, match=r"pytorch_model\.bin is truncated, or not a checkpoint"):
        inspect(spec, tmp_path)


def test_a_folder_without_weights_or_with_our_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model folder .*nowhere"):
        inspect(spec_of({"path": "nowhere"}), tmp_path)
    with pytest.raises(InputError, match="has no weights: neither"):
        belonging(["config.json"], "m")
    with pytest.raises(InputError, match=r"has a manifest\.json: Heavylift writes a file of that name itself"):
        belonging(["manifest.json", "model.safetensors"], "m")


def test_a_name_that_could_forge_a_line_of_the_digest_is_refused() -> None:
    with pytest.raises(InputError, match="must be named with letters, digits"):
        belonging(["a\nb.json", "model.safetensors"], "m")


def test_a_link_out_of_the_model_folder_is_refused(tmp_path: Path) -> None:
    spec = model(tmp_path)
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "m" / "generation_config.json").symlink_to(tmp_path / "secret")

    with pytest.raises(InputError, match=r"generation_config\.json is a link out of the model folder"):
        inspect(spec, tmp_path)


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
        client.create_bucket(Bucket="bucket")
        yield client


def test_a_prefix_in_s3_has_the_lock_of_the_same_folder(tmp_path: Path, s3: Any) -> None:
    local = inspect(model(tmp_path), tmp_path).model
    for path in (tmp_path / "m").iterdir():
        s3.put_object(Bucket="bucket", Key=f"some/m/{path.name}", Body=path.read_bytes())
    s3.put_object(Bucket="bucket", Key="some/m/sub/other.json", Body=b"{}")

    lock = inspect(spec_of({"s3": "s3://bucket/some/m/"}), tmp_path, s3)

    assert (lock.model.source, lock.model.weights) == ("s3://bucket/some/m/", local.weights)
    assert (lock.model.dtype, lock.model.parameters) == ("fp16", 6)


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path, s3: Any) -> None:
    with pytest.raises(HeavyliftError, match=r"cannot list s3://other/m/: .*NoSuchBucket"):
        inspect(spec_of({"s3": "s3://other/m/"}), tmp_path, s3)


def test_a_file_is_read_from_where_one_asks(tmp_path: Path) -> None:
    model(tmp_path, config__json=b"0123456789")

    assert b"".join(Folder(tmp_path / "m").read("config.json", 4)) == b"456789"


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, "12"]},
        {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12.0]},
        {"dtype": "F16", "shape": [2, 3.0], "data_offsets": [0, 12]},
        {"dtype": "F16", "shape": [-2, -3], "data_offsets": [0, 12]},
        {"dtype": "F16", "shape": [10**300, 3], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 12]},
        {"dtype": "F16", "shape": [2], "data_offsets": [8, 12]},
        {"dtype": "\ud800", "shape": [2, 3], "data_offsets": [0, 12]},
        {"dtype": "F99", "shape": [2, 3], "data_offsets": [0, 12]},
    ],
)
def test_a_header_that_lies_about_a_tensor_is_damaged(entry: dict[str, Any], tmp_path: Path) -> None:
    found = faults(tmp_path, model__safetensors=safetensors({"w": entry}, bytes(12)))

    assert found == ["m/model.safetensors has a damaged safetensors header: download it again"]


def test_a_file_without_tensors_is_no_checkpoint(tmp_path: Path) -> None:
    found = faults(tmp_path, model__safetensors=safetensors({"__metadata__": {"format": "pt"}}, b""))

    assert found == ["m/model.safetensors holds no tensors: download it again"]


def test_an_index_whose_shards_are_no_names_is_refused(tmp_path: Path) -> None:
    index = b'{"weight_map": {"a": 1, "b": "model.safetensors"}}'

    found = faults(tmp_path, model__safetensors__index__json=index)

    assert found == ["m/model.safetensors.index.json is not an index: it has no 'weight_map' of names"]


def test_a_partitioned_folder_is_locked_with_its_degree_and_dtype(tiny_t5: Path, tmp_path: Path) -> None:
    partition(Source(tiny_t5), tmp_path / "m", 2, "bf16")

    locked = inspect(spec_of({"path": "m"}), tmp_path).model

    assert locked.partition == Partitioned(2, "bf16")
    assert (locked.dtype, locked.parameters, locked.tensor_bytes) == ("bf16", None, None)


@pytest.mark.parametrize(
    ("manifest", "fault"),
    [
        (b"{", "partition.json cannot be read"),
        (b"[]", "partition.json cannot be read"),
        (b'{"format": "other/1"}', "has the format 'other/1', not 'heavylift.partition/1'; partition the model again"),
        (b'{"format": "heavylift.partition/1", "tensor_parallel_degree": true, "dtype": "fp32"}', "is damaged"),
    ],
)
def test_a_partitions_manifest_that_is_none_is_named(manifest: bytes, fault: str, tmp_path: Path) -> None:
    (found,) = faults(tmp_path, partition__json=manifest)

    assert fault in found
