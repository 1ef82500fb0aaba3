"""One rank of two that loads a folder as from S3: `python rows_process.py FOLDER RANK RENDEZVOUS END`.

Not a test: tests start it as a process of its own. END is what happens to it after some of its reads: `killed`,
`refused` (a LoadError), or `none`. Prints a digest of all that it holds, or the error's name and sentence.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

import torch

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native import loader as loader_module
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.shared_memory import join
from heavylift_runtime.native.sources import Folder

ENOUGH = 8
"""Reads until the end."""


class Ending(Folder):
    """A folder that ends its process, or says that it ends itself, in the middle of what is read for others."""

    readers, pieces = 3, False

    def __init__(self, path: Path, end: str) -> None:
        super().__init__(path)
        self.end, self.armed, self.reads = end, False, 0

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        super().read_into(name, start, *buffers)
        self.reads += self.armed
        if self.reads == ENOUGH and self.end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.reads == ENOUGH and self.end == "refused":
            raise LoadError("the disk is gone")


def main(folder: Path, rank: int, rendezvous: str, end: str) -> None:
    torch.set_num_threads(1)
    group = join(rank, 2, rendezvous)
    source = Ending(folder, end)
    checkpoint = Checkpoint.open(source, rank, 2)
    source.armed = True
    loader_module.FEW = 8192  # so that ranks wait for each other's reads, and for room
    digest = hashlib.sha256()
    try:
        with Loader(checkpoint, rank, 2, torch.float32, group=group) as loader:
            for weight in checkpoint.agree():
                digest.update(loader.take(weight.name).numpy().tobytes())
    except (LoadError, RuntimeError) as error:
        print(type(error).__name__, error, flush=True)
        sys.stdin.readline()  # as a rank that says why it ends, and only then does
        os._exit(1)
    print(digest.hexdigest(), flush=True)
    group.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
