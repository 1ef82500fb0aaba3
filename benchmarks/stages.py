"""What parts and stages cost or gain: one process, two that divide each layer, two that divide the layers.

All on the same processors: one process has all threads, two have half of them each. So nothing can be gained but by
waiting less; a pipeline is for models that one machine's memory does not hold, and here is what its order of passes
costs. Random weights of a Llama with 350 M parameters in bf16, 32 tokens in, 64 out, otherwise as engine_speed.py.
The last line is one JSON object. `python benchmarks/stages.py [--rounds N]`
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from engine_speed import Case, Side, measure
from sides.checkpoints import write_llama_350m

CASE = Case("llama-350m bf16, ranks", write_llama_350m, "bf16", (1, 4, 16), (
    Side("native", "native_ranks", {"dtype": "bf16"}),
    Side("two parts", "native_ranks", {"dtype": "bf16", "tensor": 2}),
    Side("two stages", "native_ranks", {"dtype": "bf16", "pipeline": 2}),
))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        CASE.write(Path(folder))
        found = measure(CASE, Path(folder), args.rounds, 11)
    machine = {"threads": len(os.sched_getaffinity(0)), "load_average": round(os.getloadavg()[0], 2)}
    print(json.dumps({"benchmark": "stages", "how": "measured", "machine": machine, **found}))


if __name__ == "__main__":
    main()
