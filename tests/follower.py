"""A rank above 0 of an engine as a process, for the tests: `-m tests.follower ENGINE FOLDER RANK WORLD RENDEZVOUS`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch

from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.options import Options


def main() -> None:
    name, folder, rank, world, rendezvous = (
        sys.argv[1],
        Path(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]),
        sys.argv[5],
    )
    torch.set_num_threads(1)
    options = Options(engine=name, batch_size=4, tensor_parallel_degree=world)
    importlib.import_module(ENGINES[name].module).load(options, folder, rank, world, rendezvous).follow()


if __name__ == "__main__":
    main()
