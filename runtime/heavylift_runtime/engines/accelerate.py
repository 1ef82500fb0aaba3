"""Any model of Hugging Face's that generates text, placed by `accelerate` over devices, memory and disk; or by
transformers over ranks.

One process with `option.device_map`, or as many as `option.tensor_parallel_degree` says: then each rank reads its own
parts of the layers, by the `tp_plan` that transformers has of the model. Not encoders, which answer with numbers
(encoders.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from heavylift_runtime.engines.engine import Engine
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
) -> Engine:
    """This rank's engine, loaded and in step with the others; LoadError says what does not fit."""
    started = time.monotonic()
    if torch.cuda.is_available() and world > 1:
        torch.cuda.set_device(rank)
    pretrained = Pretrained.writing(options, model_dir, world, rendezvous, report)
    report(f"loading {pretrained.place} for {pretrained.task}")
    if world == 1:
        engine = Writer("accelerate", pretrained, pretrained.model(), options.capacity)
        report(f"model: ready after {time.monotonic() - started:.2f} s")
        return engine
    pretrained.check_split(world)
    group = join(rank, world, rendezvous)  # also torch.distributed's own group, which transformers finds
    try:
        model = pretrained.split(rank, world)
        group.barrier()
    except BaseException:
        group.close()
        raise
    report(f"model: ready on rank {rank} of {world} after {time.monotonic() - started:.2f} s")
    return Ranked(
        "accelerate", Writer("accelerate", pretrained, model, options.capacity, chosen_by_rank_0(group)), group
    )
