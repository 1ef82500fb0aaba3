"""How often a pass's form must come before its calls are kept: `python benchmarks/forms.py FOLDER [--seconds S]`.

Not the engine's speed (engine_speed.py): tokens per second of processor time, one thread and no server, as the native
engine answers 1, 4 and 32 clients whose answers differ in length (native/architectures/repeated.py, OFTEN). Sides take
turns; each begins with nothing kept. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from sides.bare_engine import Sizes, play

from heavylift_runtime.engines.native import load
from heavylift_runtime.native.architectures import repeated
from heavylift_runtime.options import Options

SIDES = {"at once": 1, "twice": 2, "4 times": 4, "8 times": 8, "never": 1 << 60}
STREAMS = {1: Sizes(32, 0), 4: Sizes(32, 16), 32: Sizes(32, 16)}
ROUNDS = 3
OPTIONS = "engine=native\noption.dtype=fp32\noption.max_rolling_batch_size=32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    made: dict[int, dict[str, list[float]]] = {streams: {side: [] for side in SIDES} for streams in STREAMS}
    for _ in range(ROUNDS):
        for side, repeated.OFTEN in SIDES.items():
            engine = load(Options.parse(OPTIONS, {}), chosen.folder, 0, 1, "")
            for streams, sizes in STREAMS.items():
                began = time.process_time()
                tokens = play(engine, streams, chosen.seconds, sizes).tokens
                made[streams][side].append(tokens / (time.process_time() - began))
            engine.close()
    medians = {
        streams: {side: round(statistics.median(each)) for side, each in of.items()} for streams, of in made.items()
    }
    for streams, of in medians.items():
        print(f"{streams:3d} streams  " + "  ".join(f"{side}: {rate}" for side, rate in of.items()))
    print(json.dumps({"benchmark": "forms", "units": "tokens per second of processor time", "rates": medians}))


if __name__ == "__main__":
    main()
