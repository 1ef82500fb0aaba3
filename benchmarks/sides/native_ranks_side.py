"""Heavylift's native engine over several ranks, each with its share of the threads, no server."""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import torch
from protocol import Generate, main

from heavylift_runtime.engines.engine import Engine, Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.options import Options


def started(settings: dict[str, Any], rank: int, rendezvous: str) -> Engine:
    tensor, pipeline = settings.get("tensor", 1), settings.get("pipeline", 1)
    options = Options(
        dtype=settings["dtype"],
        tensor_parallel_degree=tensor,
        pipeline_parallel_degree=pipeline,
        batch_size=16,
    )
    torch.set_num_threads(max(1, settings["threads"] // (tensor * pipeline)))
    return load(options, Path(settings["folder"]), rank, tensor * pipeline, rendezvous)


def follow(settings: dict[str, Any], rank: int, rendezvous: str) -> None:
    """Until rank 0 is gone."""
    started(settings, rank, rendezvous).follow()


def side(settings: dict[str, Any]) -> tuple[Generate, str]:
    world = settings.get("tensor", 1) * settings.get("pipeline", 1)
    rendezvous = f"file://{tempfile.mkdtemp()}/rendezvous"
    context = multiprocessing.get_context("spawn")
    for rank in range(1, world):
        context.Process(target=follow, args=(settings, rank, rendezvous), daemon=True).start()
    engine = started(settings, 0, rendezvous)

    def generate(prompts: list[list[int]], tokens: int) -> int:
        for key, prompt in enumerate(prompts):
            engine.add(key, Request(tuple(prompt), Sampling(tokens, ignore_eos=True)))
        count = 0
        while engine.busy:
            for piece in engine.step():
                assert piece.error is None, piece.error
                count += piece.generated_tokens if piece.finish_reason is not None else 0
        return count

    return generate, f"torch {torch.__version__}, {world} ranks, {torch.get_num_threads()} threads each"


if __name__ == "__main__":
    main(side)
