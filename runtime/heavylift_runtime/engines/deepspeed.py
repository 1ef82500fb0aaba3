"""DeepSpeed behind the seam of engine.py: its automatic tensor parallelism splits a model of transformers over ranks.

Not its kernels: those keep one cache for all requests, and need a GPU. How the ranks stay in step is ranked.py's. Tried
with DeepSpeed 0.19 on processors.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from heavylift_runtime.engines.autotp import check, split
from heavylift_runtime.engines.pretrained import Pretrained
from heavylift_runtime.engines.ranked import Ranked, chosen_by_rank_0
from heavylift_runtime.engines.writer import Writer
from heavylift_runtime.native.shared_memory import join
from heavylift_runtime.options import Options


def load(
    options: Options,
    model_dir: Path,
    rank: int,
    world: int,
    rendezvous: str,
    report: Callable[[str], None] = lambda line: None,
) -> Ranked:
    """This rank's engine, in step with the others; LoadError says what does not fit."""
    started = time.monotonic()
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    pretrained = Pretrained.writing(options, model_dir, world, rendezvous, report)
    check(pretrained, options, world)
    group = join(rank, world, rendezvous)  # also torch.distributed's own group, which DeepSpeed finds
    try:
        model = split(pretrained, options, group, report)
        group.barrier()
    except BaseException:
        group.close()
        raise
    report(f"model: ready on rank {rank} of {world} after {time.monotonic() - started:.2f} s")
    writer = Writer("deepspeed", pretrained, model, options.capacity, chosen_by_rank_0(group))
    return Ranked("deepspeed", writer, group)
