"""How long the plan takes: `python benchmarks/plan_search.py`. No network, no accelerator, one thread.

Not a unit test: time depends on the machine. Two searches over every instance type: Llama-3.1-70B on vLLM (types,
precisions, splits, copies; 200 draws of each time), and `Plan.fit` of tiny-t5 with all engines of the registry. Each is
repeated; the fastest counts, and the first (which fills the tables' caches) and the median stand beside it. The last
line is one JSON object.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from heavylift.plan.lock import Lock
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.load import Load, Targets
from heavylift.plan.performance.speed import Request
from heavylift.plan.plan import Plan
from heavylift.plan.search import Found, Wanted, search
from heavylift.plan.traffic import Traffic
from heavylift.spec import ModelSpec

ROOT = Path(__file__).resolve().parent.parent
ROUNDS, LIMIT = 7, 1.0  # seconds that a search may take
LLAMA = {
    "model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 128256,
}  # fmt: skip


def large() -> Found:
    model = ModelFacts.of(LLAMA)
    load = Load(Request(1024, 256), requests_per_second=2.0)
    traffic = Traffic(load, Targets(first_token=1.0, per_token=0.05, request=60.0), "given", "a benchmark")
    return search(model, Wanted("bf16", "none", 1, 1, model.weight_bytes("bf16"), ""), traffic, (), engines=["vllm"])


def tiny(wide: bool) -> Plan:
    file = ROOT / "models" / "tiny-t5.yaml"
    return Plan.fit(ModelSpec.from_yaml(file), Lock.read(file.with_suffix(".lock"), "heavylift plan"), wide=wide)


def times(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the wall's clock, and of the processor alone, which what else the machine does lengthens less."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        started, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return {"first": wall[0], "fastest": min(wall), "median": statistics.median(wall), "processor": min(cpu)}


def main() -> None:
    rows = {
        "Llama-3.1-70B on vLLM, every type": times(large),
        "tiny-t5, its engine": times(lambda: tiny(False)),
        "tiny-t5, every engine": times(lambda: tiny(True)),
    }
    every = large()
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores; seconds")
    print(f"{'':36}{'first':>8}{'fastest':>9}{'median':>8}{'processor':>11}")
    for name, row in rows.items():
        print(f"{name:36}{row['first']:>8.2f}{row['fastest']:>9.2f}{row['median']:>8.2f}{row['processor']:>11.2f}")
    print(
        f"{len(every.candidates)} candidates, {len(every.rejected)} rejected with reasons, {len(every.front)} unbeaten"
    )
    print(json.dumps({
        "benchmark": "plan_search", "unit": "seconds", "how": "measured", "rounds": ROUNDS, "limit": LIMIT,
        "load_average": round(os.getloadavg()[0], 2), "cores": len(os.sched_getaffinity(0)),
        "within_limit": all(row["fastest"] < LIMIT for row in rows.values()),
        "seconds": {name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()},
        "candidates": len(every.candidates), "rejected": len(every.rejected), "front": len(every.front),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
