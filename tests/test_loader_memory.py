"""What a rank takes while it loads: its shard and one read buffer of memory, and its own bytes of the files.

Measured in processes of their own on a random checkpoint of 240 MB; the kernel counts memory and reads.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from heavylift_runtime.families import family_of
from heavylift_runtime.native.loader import FEW
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.sources import Folder
from tests.t5_checkpoints import SMALL, write_tokenizer

pytestmark = pytest.mark.slow
BUFFER = 8 * 1024 * 1024
"""Bytes of one read buffer."""
LARGEST = 4 * 8000 // 2 * 1024
"""Bytes of a rank's rows of the head, in fp32."""
ROUNDING = 8 * 1024 * 1024
"""Bytes that rounding them takes."""
WIDE = {"model_type": "t5", "d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 1, "num_decoder_layers": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same random weights as safetensors, as .bin, and partitioned for two ranks."""
    home = tmp_path_factory.mktemp("wide")
    config = {**SMALL, **WIDE, "num_heads": 16, "vocab_size": 8000, "architectures": ["T5ForConditionalGeneration"]}
    torch.manual_seed(0)
    tensors = {weight.name: torch.randn(weight.shape) for weight in family_of(config).weights(config)}
    for name in ("safetensors", "bin"):
        (home / name).mkdir()
        (home / name / "config.json").write_text(json.dumps(config))
        write_tokenizer(home / name, 61)
    save_file(tensors, home / "safetensors" / "model.safetensors")
    torch.save(tensors, home / "bin" / "pytorch_model.bin")
    partition(Folder(home / "safetensors"), home / "partition", 2)
    return {name: home / name for name in ("safetensors", "bin", "partition")}


def ranks(folder: Path, world: int, dtype: str, quantize: str = "none") -> list[dict[str, int]]:
    """Each rank's shard, peak memory and bytes read; one after the other, so that the machine stays quiet."""
    process = Path(__file__).with_name("loader_process.py")
    found = []
    for rank in range(world):
        command = [sys.executable, str(process), str(folder), str(rank), str(world), dtype, quantize]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    return found


def together(folder: Path, world: int, dtype: str, home: Path, quantize: str = "none") -> list[dict[str, int]]:
    """The same of ranks that load at the same time, and read for each other."""
    process = Path(__file__).with_name("loader_process.py")
    started = [
        subprocess.Popen(
            [sys.executable, str(process), str(folder), str(rank), str(world), dtype, quantize, f"file://{home}/meeting"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        ended = [rank.communicate(timeout=300) for rank in started]
    finally:
        for rank in started:
            rank.kill()
    assert all(rank.returncode == 0 for rank in started), ended
    return [json.loads(out) for out, _ in ended]


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("safetensors", "float32"), ("safetensors", "bfloat16"), ("bin", "float32"), ("partition", "float32")],
)
def test_a_rank_holds_its_shard_and_one_read_buffer_and_reads_its_own_bytes(
    folders: dict[str, Path], kind: str, dtype: str
) -> None:
    found = ranks(folders[kind], 2, dtype)

    for rank in found:
        assert rank["peak"] <= 1.15 * rank["shard"] + BUFFER, found
    assert sum(rank["read"] for rank in found) <= 1.02 * size(folders[kind]), found


@pytest.mark.parametrize(("world", "dtype"), [(2, "float32"), (2, "bfloat16"), (4, "float32")])
def test_ranks_that_read_for_each_other_hold_no_more_and_read_the_checkpoint_once(
    folders: dict[str, Path], world: int, dtype: str, tmp_path: Path
) -> None:
    found = together(folders["safetensors"], world, dtype, tmp_path)

    for rank in found:
        assert rank["peak"] <= 1.15 * rank["shard"] + BUFFER, found
    assert sum(rank["read"] for rank in found) <= 1.02 * size(folders["safetensors"]), found


def test_four_ranks_together_read_the_checkpoint_once(folders: dict[str, Path]) -> None:
    found = ranks(folders["safetensors"], 4, "float32")

    assert sum(rank["read"] for rank in found) <= 1.02 * size(folders["safetensors"]), found
    assert all(rank["peak"] <= 1.15 * rank["shard"] + BUFFER for rank in found), found


@pytest.mark.parametrize(("kind", "quantize"), [("safetensors", "int8"), ("safetensors", "int4"), ("bin", "int8")])
def test_a_rank_that_rounds_holds_its_rounded_shard_and_one_matrix_as_it_is_read(
    folders: dict[str, Path], kind: str, quantize: str
) -> None:
    found = ranks(folders[kind], 2, "bfloat16", quantize)

    for rank in found:
        assert rank["shard"] < 0.4 * size(folders[kind]) / 2, found  # the embedding stays in bf16
        assert rank["peak"] <= 1.15 * rank["shard"] + LARGEST + ROUNDING + BUFFER, found
    assert sum(rank["read"] for rank in found) <= 1.02 * size(folders[kind]), found


@pytest.mark.parametrize(("kind", "quantize"), [("safetensors", "int8"), ("safetensors", "int4"), ("bin", "int4")])
def test_ranks_that_read_for_each_other_and_round_hold_their_shelves_more_than_from_a_disk(
    folders: dict[str, Path], kind: str, quantize: str, tmp_path: Path
) -> None:
    found = together(folders[kind], 2, "bfloat16", tmp_path, quantize)

    assert all(rank["peak"] <= 1.15 * rank["shard"] + LARGEST + ROUNDING + BUFFER + FEW for rank in found), found
