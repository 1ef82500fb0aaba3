"""What quantization costs on models that were trained: exact answers to tasks, through the engine, and logits."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.quantize.convert import convert
from heavylift_runtime.native.sources import Folder
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import logits_of, oracle

ROOT = Path(__file__).parent.parent
WORKLOAD = ROOT / "heavylift" / "benchmark" / "workloads" / "four-tasks.jsonl"
ROWS = [json.loads(line) for line in WORKLOAD.read_text(encoding="utf-8").splitlines()]
PLAIN = {"tiny-t5": 1.0, "tiny-llama": 0.96}
"""Exact answers of the committed models in fp32, of 200 that they never saw."""


def right(folder: Path, rank: int = 0, world: int = 1, rendezvous: str = "", **options: str) -> float:
    """The share of exact answers, all 200 prompts at once; ranks beside the first one follow, and have none."""
    torch.set_num_threads(1)
    given = Options(batch_size=32, tensor_parallel_degree=world, **options)  # type: ignore[arg-type]  # each is a text
    engine = load(given, folder, rank, world, rendezvous)
    if rank > 0:
        engine.follow()
        return 0.0
    for key, row in enumerate(ROWS):
        engine.add(key, Request(row["input"], Sampling(64)))
    answers = [""] * len(ROWS)
    while engine.busy:
        for piece in engine.step():
            assert piece.error is None
            answers[piece.key] += "".join(token.text for token in piece.tokens)
    engine.close()
    exact: list[bool] = [answer.strip() == row["answer"] for answer, row in zip(answers, ROWS, strict=True)]
    return sum(exact) / len(exact)


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "loss"), [("none", 0.0), ("int8", 0.0), ("dynamic_int8", 0.01), ("int4", 0.02)])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("model", PLAIN)
def test_trained_models_keep_their_answers(model: str, dtype: str, quantize: str, loss: float) -> None:
    assert right(ROOT / "models" / model, dtype=dtype, quantize=quantize) >= PLAIN[model] - loss


@pytest.mark.slow
@pytest.mark.parametrize(("method", "loss"), [("awq", 0.1), ("gptq", 0.1)])
@pytest.mark.parametrize("model", PLAIN)
def test_converted_checkpoints_keep_most_of_their_answers(tmp_path: Path, model: str, method: str, loss: float) -> None:
    convert(Folder(ROOT / "models" / model), tmp_path / "made", method, 32)

    assert right(tmp_path / "made", quantize=method) >= PLAIN[model] - loss


@pytest.mark.slow
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_two_ranks_of_rounded_weights_keep_the_answers_too(tmp_path: Path, quantize: str) -> None:
    folder, meeting = ROOT / "models" / "tiny-llama", f"file://{tmp_path}/meeting"

    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        ranks = [pool.submit(right, folder, rank, 2, meeting, quantize=quantize) for rank in range(2)]

    assert ranks[0].result() >= PLAIN["tiny-llama"] - 0.02


@pytest.mark.slow
def test_a_quantized_partition_answers_as_the_checkpoint_does(tmp_path: Path) -> None:
    partition(Folder(ROOT / "models" / "tiny-llama"), tmp_path / "parts", 1, quantize="int4")

    assert right(tmp_path / "parts", quantize="int4") == right(ROOT / "models" / "tiny-llama", quantize="int4")


@pytest.mark.parametrize(("quantize", "most"), [("int8", 0.02), ("int4", 0.15)])
def test_logits_move_by_a_small_part_of_their_spread(quantize: str, most: float) -> None:
    folder = ROOT / "models" / "tiny-llama"
    tokens = [3, *range(20, 60)]
    model = oracle(folder)
    exact = logits_of(model, tokens)
    checkpoint = Checkpoint.open(Folder(folder))
    held = dict(model.named_parameters())

    with torch.inference_mode(), Loader(checkpoint, 0, 1, torch.float32, quantize=quantize) as loader:
        for weight in checkpoint.family.weights(checkpoint.config):
            found = loader.matrix(weight.name) if weight.matrix else loader.take(weight.name)
            held[weight.name].data.copy_(found if isinstance(found, torch.Tensor) else found.dense())
        moved = logits_of(model, tokens)

    assert 0 < (moved - exact).std() < most * exact.std()
