"""Fleets chosen with computed throughputs, judged with measured ones: what four fitted numbers per GPU cost.

Not a prediction: the closed forms' coefficients are fitted to the same tables (in-sample). Llama-2-7b in vLLM 0.2.7 at
120 ms a token; the tables are those that fleet_melange.py reads, and a tenth of each instance is kept free. For each
rate: the fleet, its cost over that of the cheapest one with the same head room, and the factor by which the measured
tables say that its load could grow. The last line is one JSON object.

    .venv/bin/python benchmarks/fleet_computed.py [--folder COPIES] [--rates 1 2 4 8 16 32]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from fleet_melange import PRICES, SIDE, SIZES, SOURCES, Table, problem_of, tables_of, text_of
from scipy.optimize import minimize

from heavylift.plan.facts import Accelerator, accelerators
from heavylift.plan.fleet import solve
from heavylift.plan.fleet.assign import served_share
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.coefficients import Coefficients
from heavylift.plan.performance.device import Device
from heavylift.plan.performance.speed import Request, Speed
from heavylift.plan.performance.work import Work

CONFIG = {  # of meta-llama/Llama-2-7b-hf's config.json
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
}
NAMES = {"L4": "L4", "A10G": "A10G", "A100": "A100-80", "H100": "H100"}
TPOT, USABLE, SLACK, ROWS = 0.120, 0.9, 2**30, 256  # seconds; of the memory; bytes; vLLM's default then
STARTS = ((0.7, 0.7, 1e-4, 3e-4), (0.8, 0.3, 1e-5, 4e-4))  # memory, compute, step, row
HEAD_ROOM, MORE = 0.1, 3.0


def main() -> int:
    """0 when every table is within 12 % and every fleet can serve its load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help=f"copies of {' and '.join(SOURCES)}")
    parser.add_argument("--rates", type=float, nargs="*", default=[1, 2, 4, 8, 16, 32], help="requests per second")
    chosen = parser.parse_args()
    try:
        tables, histogram = tables_of(text_of("eval.ipynb", chosen.folder))
    except OSError as error:
        print(f"cannot read the tables: {error}; give copies of them with --folder", file=sys.stderr)
        print(json.dumps({"benchmark": "fleet_computed", "compared": False}))
        return 0
    computed, fits = {}, {}
    for name, table in tables.items():
        flat, errors = _fitted(accelerators()[NAMES[name]], np.array(table)[:SIDE, :SIDE].ravel())
        computed[name] = flat.reshape(SIDE, SIDE).tolist()
        fits[name] = round(100 * float(errors.mean()), 2)
        print(f"{name:<5} mean error {fits[name]:5.2f} %, worst {100 * errors.max():5.1f} %")
    rows = [_judged(rate, tables, computed, histogram) for rate in chosen.rates]
    for row in rows:
        mix = " ".join(f"{count} {name}" for name, count in row["fleet"].items())
        print(
            f"{row['rate']:>5g}/s  {mix:<28} ${row['usd_per_hour']:<8.3f} cost x{row['cost']:.3f}"
            f"  room x{row['room']:.2f}"
        )
    good = max(fits.values()) <= 12 and min(row["room"] for row in rows) >= 1
    print(json.dumps({"benchmark": "fleet_computed", "compared": True, "mean_error_percent": fits, "rows": rows}))
    return 0 if good else 1


def _judged(rate: float, tables: dict[str, Table], computed: dict[str, Table], histogram: Table) -> dict[str, object]:
    measured = replace(problem_of(tables, histogram, rate, PRICES), head_room=HEAD_ROOM)
    best, ours = solve(measured), solve(replace(problem_of(computed, histogram, rate, PRICES), head_room=HEAD_ROOM))
    more = tuple(replace(each, requests_per_second=MORE * each.requests_per_second) for each in measured.buckets)
    have = tuple(replace(each, at_most=ours.counts.get(each.name, 0)) for each in measured.offers)
    room = MORE * served_share(replace(measured, buckets=more, offers=have, head_room=0.0))
    return {
        "rate": rate,
        "fleet": ours.counts,
        "usd_per_hour": round(ours.usd_per_hour, 3),
        "cost": round(ours.usd_per_hour / best.usd_per_hour, 4),
        "room": round(room, 3),
    }


def _fitted(accelerator: Accelerator, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The table that fits best, and its relative errors."""
    device = Device.of(accelerator, "fp16")
    assert device is not None

    def table(logs: np.ndarray) -> np.ndarray:
        memory, compute, step, row = np.exp(logs)
        own = Coefficients(min(1.0, memory), min(1.0, compute), step, row, 0.0, 1.0, 1.0, 0.0, 0.0)
        return _table(accelerator, device, own)

    def error(logs: np.ndarray) -> float:
        return float(np.abs(np.log(table(logs) / measured)).mean())

    options = {"maxiter": 600, "xatol": 1e-3, "fatol": 1e-5}
    found = [minimize(error, np.log(start), method="Nelder-Mead", options=options) for start in STARTS]
    best = table(min(found, key=lambda each: each.fun).x)
    return best, np.abs(best / measured - 1)


def _table(accelerator: Accelerator, device: Device, own: Coefficients) -> np.ndarray:
    """Requests per second of one GPU for each size, at the largest rate whose tokens take at most 120 ms."""
    facts = ModelFacts.of(CONFIG)
    speed = Speed(Work.of(facts, "fp16"), device, 1, own)
    cache = USABLE * accelerator.memory_gib * 2**30 - facts.weight_bytes("fp16") - SLACK
    rates = []
    for prompt in SIZES:
        for answer in SIZES:
            most = min(ROWS, cache / speed.work.kv_bytes / (prompt + answer / 2))
            rows, request = np.arange(1, max(1, int(most)) + 1, dtype=np.float64), Request(prompt, answer)
            kept = np.asarray(speed.per_token(rows, request)) <= TPOT
            rate = rows / np.asarray(speed.cycle(rows, request))
            rates.append(float(rate[kept].max()) if kept.any() else 1e-6)
    return np.array(rates)


if __name__ == "__main__":
    sys.exit(main())
