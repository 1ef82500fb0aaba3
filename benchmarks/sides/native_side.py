"""Heavylift's native engine, one rank, no server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from protocol import Generate, main

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.options import Options


def side(settings: dict[str, Any]) -> tuple[Generate, str]:
    options = Options(
        dtype=settings["dtype"],
        quantize=settings.get("quantize", "none"),
        batch_invariant=settings.get("batch_invariant", False),
        batch_size=16,
    )
    engine = load(options, Path(settings["folder"]), 0, 1, "")

    def generate(prompts: list[list[int]], tokens: int) -> int:
        for key, prompt in enumerate(prompts):
            engine.add(key, Request(tuple(prompt), Sampling(tokens, ignore_eos=True)))
        count = 0
        while engine.busy:
            for piece in engine.step():
                assert piece.error is None, piece.error
                count += piece.generated_tokens if piece.finish_reason is not None else 0
        return count

    return generate, f"torch {torch.__version__}, {torch.get_num_threads()} threads"


main(side)
