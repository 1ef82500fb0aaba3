"""FasterTransformer's name, models and rules, served by the native engine. Not NVIDIA's kernels, and no code of theirs.

FasterTransformer is frozen since 2023. What it never had is refused by name: the native engine has it under its own.
Source: NVIDIA/FasterTransformer, docs; djl-serving v0.23, djl_python/fastertransformer.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from heavylift_runtime.engines import native
from heavylift_runtime.engines.engine import Engine
from heavylift_runtime.engines.registry import ENGINES, encoder_fault
from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.stages import Stage
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.sources import source_of
from heavylift_runtime.options import Options


def load(
    options: Options,
    model_dir: Path,
    rank: int,
    world: int,
    rendezvous: str,
    report: Callable[[str], None] = lambda line: None,
) -> Engine:
    """The native engine, for a model that FasterTransformer had; LoadError for others."""
    tensor, pipeline = options.tensor_parallel_degree, options.pipeline_parallel_degree
    stage = Stage.holding(rank, tensor, pipeline)
    source = source_of(options.model_id, model_dir, options.properties.get("revision"))
    checkpoint = Checkpoint.open(source, rank % tensor, tensor, stage)
    kind, has = str(checkpoint.config.get("model_type")), ENGINES["fastertransformer"].families
    if kind not in has:
        other = f"FasterTransformer never had the model_type {kind!r}: it had {', '.join(has)}; set engine=native"
        raise LoadError(encoder_fault("FasterTransformer", kind) or other)
    if kind == "t5" and options.quantize != "none":
        raise LoadError(f"FasterTransformer had no {options.quantize} for T5: set engine=native, which has it")
    return native.load(options, model_dir, rank, world, rendezvous, report)
