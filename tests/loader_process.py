"""One rank that loads a checkpoint and says what it took.

`python loader_process.py FOLDER RANK WORLD DTYPE QUANTIZE [RENDEZVOUS]`; the last where the ranks read for each
other. Not a test: tests start it as a process of its own, whose peak memory and reads the kernel counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.quantize.forms import Matrix
from heavylift_runtime.native.shared_memory import join
from heavylift_runtime.native.sources import Folder


class Far(Folder):
    """A folder that several readers read, as they do S3, with as little memory as a disk's reader needs."""

    readers, cast, pieces = 2, 2 * 1024 * 1024, False


def memory(field: str) -> int:
    """Bytes of VmHWM (the peak) or VmRSS of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def read() -> int:
    """Bytes that this process has asked the kernel for, from the page cache or the disk."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))


def main(folder: Path, rank: int, world: int, dtype: torch.dtype, quantize: str, rendezvous: str | None = None) -> None:
    torch.set_num_threads(1)
    group = None if rendezvous is None else join(rank, world, rendezvous)
    torch.ones(1000).bfloat16().sum().item()  # what torch sets up once
    read_before, before = read(), memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): the peak begins anew
    checkpoint = Checkpoint.open(Folder(folder) if rendezvous is None else Far(folder), rank, world)
    held: list[Matrix] = []
    with torch.inference_mode(), Loader(checkpoint, rank, world, dtype, quantize=quantize, group=group) as loader:
        for weight in checkpoint.family.weights(checkpoint.config):
            if loader.has(weight.name):
                held.append(loader.matrix(weight.name) if weight.matrix else loader.take(weight.name))
    tensors = [each for form in held for each in ([form] if isinstance(form, torch.Tensor) else vars(form).values())]
    shard = sum(tensor.nbytes for tensor in tensors)
    print(json.dumps({"shard": shard, "peak": memory("VmHWM") - before, "read": read() - read_before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), getattr(torch, sys.argv[4]), *sys.argv[5:])
