"""Bad checkpoints: each is refused with a sentence. Not what the loader reads of good ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.sources import Folder
from tests.t5_checkpoints import edit_config, edit_tensors, write_t5
from tests.test_loader import shard_files, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_t5(tmp_path / "t5")


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def rewrite_header(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    edit(header)
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])


Q = "encoder.block.0.layer.0.SelfAttention.q.weight"
FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: cut(f / "model.safetensors", 5), "5 bytes are no safetensors file"),
    (lambda f: cut(f / "model.safetensors", 500), "header alone needs .* truncated"),
    (
        lambda f: cut(f / "model.safetensors", (f / "model.safetensors").stat().st_size - 1),
        "tensors end at .* truncated",
    ),
    (lambda f: append(f / "model.safetensors", b"x"), "something follows the last tensor"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 4000), "more than the 100000000 allowed"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "is a list, not an object"),
    (lambda f: (f / "model.safetensors").write_bytes(b"\x04" + b"\0" * 7 + b"\xff{}}"), "not readable JSON"),
    (
        lambda f: (f / "model.safetensors").write_bytes(b"\x0f" + b"\0" * 7 + b'{"a":{},"a":{}}'),
        "'a' is there twice",
    ),
    (lambda f: rewrite_header(f, lambda h: h[Q].pop("shape")), f"{Q}' has no dtype, shape and data_offsets"),
    (lambda f: rewrite_header(f, lambda h: h[Q].update(shape=[24, -24])), f"{Q}' has no dtype, shape"),
    (lambda f: rewrite_header(f, lambda h: h[Q].update(dtype="F7")), f"{Q}' has dtype 'F7'; known are F64"),
    (lambda f: rewrite_header(f, lambda h: h[Q].update(shape=[24, 23])), f"{Q}' of F32 .* needs 2208 bytes"),
    (
        lambda f: rewrite_header(f, lambda h: h[Q].update(data_offsets=[o + 4 for o in h[Q]["data_offsets"]])),
        "a gap or an overlap",
    ),
    (lambda f: edit_tensors(f, lambda t: {k: v for k, v in t.items() if k != Q}), f"{Q}' of shape .* is missing"),
    (lambda f: edit_tensors(f, lambda t: {**t, Q: t[Q][:12].clone()}), rf"{Q}' has shape \[12, 24\], \[24, 24\] by"),
    (lambda f: edit_tensors(f, lambda t: {**t, "more": torch.ones(1)}), "tensor 'more' is none of T5"),
    (lambda f: edit_tensors(f, lambda t: {**t, Q: t[Q].to(torch.int8)}), f"{Q}' is I8; known are F64"),
    (lambda f: edit_config(f, d_ff=40), r"wi_0.weight' has shape \[36, 24\], \[40, 24\] by"),
    (lambda f: edit_config(f, model_type="rwkv"), "'model_type' is 'rwkv'"),
    (lambda f: (f / "config.json").unlink(), "there is no config.json"),
    (lambda f: (f / "config.json").write_text("{"), "config.json: is not readable JSON"),
    (lambda f: (f / "config.json").write_text("[1]"), "config.json: holds a list"),
    (lambda f: (f / "model.safetensors").unlink(), "has no weights; a checkpoint has model.safetensors or"),
    (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pytorch_model.bin: is no zip archive"),
]


@pytest.mark.parametrize(("damage", "sentence"), FAULTS, ids=[sentence[-40:] for _, sentence in FAULTS])
def test_a_damaged_checkpoint_is_refused_with_a_sentence(
    folder: Path, damage: Callable[[Path], object], sentence: str
) -> None:
    damage(folder)

    with pytest.raises(LoadError, match=sentence):
        Checkpoint.open(Folder(folder)).agree()


def test_every_fault_of_the_tensors_comes_at_once_and_a_flood_is_cut(folder: Path) -> None:
    edit_tensors(folder, lambda tensors: {"a": torch.ones(1), "b": torch.ones(1)})

    with pytest.raises(LoadError) as caught:
        Checkpoint.open(Folder(folder)).agree()

    lines = str(caught.value).splitlines()
    missing = len(
        list(Checkpoint.open(Folder(folder)).family.weights(json.loads((folder / "config.json").read_text())))
    )
    assert len(lines) == 21
    assert lines[-1] == f"and {missing - 1 + 2 - 20} more such faults"  # a missing head is a tied one, no fault


def test_an_index_that_disagrees_with_its_files_is_refused(folder: Path) -> None:
    shard_files(folder)
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())

    index.write_text(json.dumps({"weight_map": {**good["weight_map"], "ghost": "model-00001-of-00003.safetensors"}}))
    with pytest.raises(LoadError, match="tensor 'ghost' is missing, though"):
        Checkpoint.open(Folder(folder))
    index.write_text(json.dumps({"weight_map": {**good["weight_map"], Q: "../other.safetensors"}}))
    with pytest.raises(LoadError, match=r"is in '../other.safetensors'; it must be .* beside the index"):
        Checkpoint.open(Folder(folder))
    index.write_text(json.dumps({"weight_map": {k: v for k, v in good["weight_map"].items() if k != Q}}))
    with pytest.raises(LoadError, match=f"tensor '{Q}' is in this file, in None by"):
        Checkpoint.open(Folder(folder))
    index.write_text(json.dumps(good))
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(LoadError, match=r"names model-00002-of-00003.safetensors, which is not there"):
        Checkpoint.open(Folder(folder))
    index.write_text("{}")
    with pytest.raises(LoadError, match="no readable 'weight_map'"):
        Checkpoint.open(Folder(folder))


def test_a_manifest_is_held_against_the_files(folder: Path) -> None:
    write_manifest(folder)
    Checkpoint.open(Folder(folder)).agree()
    config = (folder / "config.json").read_text()

    (folder / "config.json").write_text(config.replace("61", "62"))
    with pytest.raises(LoadError, match=r"config.json: its SHA-256 is not the one in manifest.json"):
        Checkpoint.open(Folder(folder))
    (folder / "config.json").write_text(config + " ")
    cut(folder / "model.safetensors", 1000)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(LoadError) as caught:
        Checkpoint.open(Folder(folder))
    assert len(str(caught.value).splitlines()) == 3
    (folder / "manifest.json").write_text('{"format": "heavylift.manifest/2"}')
    with pytest.raises(LoadError, match=r"'heavylift.manifest/2' is not 'heavylift.manifest/1'"):
        Checkpoint.open(Folder(folder))
