"""Any model of Hugging Face's that generates text, placed by `accelerate` over devices, memory and disk.

Not encoders: those answer with numbers (encoders.py). What it does with requests is writer.py's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from heavylift_runtime.engines.pretrained import Pretrained
from heavylift_runtime.engines.tasks import GENERATING
from heavylift_runtime.engines.writer import Writer
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options


def load(
    options: Options,
    model_dir: Path,
    rank: int,
    world: int,
    rendezvous: str,
    report: Callable[[str], None] = lambda line: None,
) -> Writer:
    """The engine, loaded; LoadError says what does not fit."""
    if world != 1:
        raise LoadError(
            f"engine accelerate has one process, which places layers on devices: got {world} ranks; "
            "set option.tensor_parallel_degree=1 and option.device_map=auto, or engine=DeepSpeed"
        )
    started = time.monotonic()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // options.workers))
    pretrained = Pretrained(options, model_dir, Path(rendezvous.removeprefix("file://")).parent, report)
    if pretrained.task not in GENERATING:
        raise LoadError(f"the model's task is {pretrained.task}, which generates no text: set option.task")
    report(f"loading {pretrained.place} for {pretrained.task}")
    engine = Writer("accelerate", pretrained, pretrained.model(), options.capacity)
    report(f"model: ready after {time.monotonic() - started:.2f} s")
    return engine
