"""Heavylift's native engine over several ranks, each with its share of the threads, no server."""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import torch
from native_generate import generate_with
from protocol import Generate, main

from heavylift_runtime.engines.engine import Engine
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
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:  # where the ranks meet; then nobody looks there again
        rendezvous = f"file://{folder}/rendezvous"
        for rank in range(1, world):
            context.Process(target=follow, args=(settings, rank, rendezvous), daemon=True).start()
        engine = started(settings, 0, rendezvous)
    return generate_with(engine), f"torch {torch.__version__}, {world} ranks, {torch.get_num_threads()} threads each"


if __name__ == "__main__":
    main(side)
