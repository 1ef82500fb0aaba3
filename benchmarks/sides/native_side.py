"""Heavylift's native engine, one rank, no server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from native_generate import generate_with
from protocol import Generate, main

from heavylift_runtime.engines.native import load
from heavylift_runtime.options import Options


def side(settings: dict[str, Any]) -> tuple[Generate, str]:
    options = Options(
        dtype=settings["dtype"],
        quantize=settings.get("quantize", "none"),
        batch_invariant=settings.get("batch_invariant", False),
        batch_size=16,
        properties={name: str(settings[name]) for name in ("speculative_length",) if name in settings},
    )
    engine = load(options, Path(settings["folder"]), 0, 1, "")
    return generate_with(engine), f"torch {torch.__version__}, {torch.get_num_threads()} threads"


main(side)
