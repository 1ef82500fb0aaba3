"""A rank above 0 of an engine as a process: `-m tests.follower ENGINE FOLDER RANK WORLD RENDEZVOUS [PROPERTIES]`.

The last is a JSON object of `option.*`.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import torch

from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.options import Options


def main() -> None:
    name, folder, place, size, rendezvous = sys.argv[1:6]
    rank, world = int(place), int(size)
    torch.set_num_threads(1)
    properties = json.loads(sys.argv[6]) if len(sys.argv) > 6 else {}
    options = Options(engine=name, batch_size=4, tensor_parallel_degree=world, properties=properties)
    importlib.import_module(ENGINES[name].module).load(options, Path(folder), rank, world, rendezvous).follow()


if __name__ == "__main__":
    main()
