"""One rank of the native engine as a process, for the tests: `-m tests.rank_process FOLDER RANK WORLD RENDEZVOUS`.

Rank 0 reads lines of JSON (a list of [prompt, max_new_tokens], or null to close) and prints the replies as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.options import Options
from tests.native_cores import replies_of


def main() -> None:
    folder, rank, world, rendezvous = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(1)
    options = Options(batch_size=16, tensor_parallel_degree=world)
    engine = load(options, Path(folder), rank, world, rendezvous)
    print("loaded", flush=True)
    if rank > 0:
        engine.follow()
        return
    for line in sys.stdin:
        requests = json.loads(line)
        if requests is None:
            break
        print(
            json.dumps(
                [
                    asdict(reply)
                    for reply in replies_of(engine, [Request(text, Sampling(count)) for text, count in requests])
                ]
            ),
            flush=True,
        )
    engine.close()


if __name__ == "__main__":
    main()
