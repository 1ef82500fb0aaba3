"""One matrix product by each of the forms that a weight can have: `python benchmarks/linear.py [--threads N]`.

Not an engine: products only, of T5-base's and a Llama of 350 M parameters' shapes, by rows. Weights are rotated through
200 MB, so that they come from memory and not from a cache; the ways of a form take turns, and microseconds of the
fastest tenth of the calls are shown. From these numbers come linear.PACK_FROM and linear.way_of. The last line is one
JSON object; the last one kept is results/linear.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor

from heavylift_runtime.native.kernels import calls
from heavylift_runtime.native.linear import Packed, Plain, Product, Rounded
from heavylift_runtime.native.quantize.forms import DynamicInt8, Matrix
from heavylift_runtime.native.quantize.rounding import int4_of, int8_of

SHAPES = ((128, 128), (768, 768), (2304, 768), (32128, 768), (5632, 1024))
ROWS = (1, 2, 4, 16, 64)
BYTES, MOST, SECONDS = 200_000_000, 128, 0.1
FORMS: dict[str, tuple[torch.dtype, float, Callable[[Tensor], Matrix]]] = {
    "fp32": (torch.float32, 4, lambda weight: weight),
    "bf16": (torch.bfloat16, 2, lambda weight: weight.bfloat16()),
    "int8": (torch.bfloat16, 1, int8_of),
    "dynamic int8": (torch.bfloat16, 1, lambda weight: DynamicInt8(*vars(int8_of(weight)).values())),
    "int4": (torch.bfloat16, 0.625, lambda weight: int4_of(weight, 32)),
}
"""Form → the activations' type, bytes for each weight, and how it is made."""
WAYS: dict[str, tuple[tuple[str, Callable[..., Product]], ...]] = {
    "fp32": (("kernel", calls.Product), ("packed", Packed), ("plain", Plain)),
    "bf16": (("kernel", calls.Product), ("packed", Packed), ("plain", Plain)),
    "int8": (("kernel", calls.Product), ("pytorch", Rounded)),
    "dynamic int8": (("kernel", calls.Product), ("pytorch", Rounded)),
    "int4": (("pytorch", Rounded),),
}
"""Form → the ways to multiply with it; `kernel`: native/kernels."""


def fastest(ways: dict[str, list[Callable[[Tensor], Tensor]]], x: Tensor) -> dict[str, float]:
    """Seconds of a call of each way, of the fastest tenth; the ways take turns, weight by weight."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    until = time.perf_counter() + SECONDS * len(ways)
    while time.perf_counter() < until:
        for turn in zip(*ways.values(), strict=True):
            for way, product in zip(ways, turn, strict=True):
                started = time.perf_counter()
                product(x)
                found[way].append(time.perf_counter() - started)
    return {way: sorted(times)[len(times) // 10] for way, times in found.items()}


def bandwidth() -> float:
    """Bytes read per second by all threads: the best of five passes over 512 MiB."""
    buffer, best = torch.zeros(2**27, dtype=torch.int32), 0.0
    for _ in range(5):
        started = time.perf_counter()
        buffer.max()
        best = max(best, buffer.nbytes / (time.perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    rows = []
    with torch.inference_mode():
        read = bandwidth()
        print(f"{read / 1e9:.1f} GB/s of memory; microseconds for", *ROWS, "rows, and GB/s of one row's")
        for shape in SHAPES:
            for name, (dtype, size, make) in FORMS.items():
                count = min(MOST, max(2, int(BYTES / size / shape[0] / shape[1])))
                weights = [torch.randn(shape) for _ in range(count)]
                # a copy for each way, or one would find in the cache what another has just read
                ways = {way: [product(make(each.clone()), None) for each in weights] for way, product in WAYS[name]}
                times = [fastest(ways, torch.randn(many, shape[1]).to(dtype)) for many in ROWS]
                for way in ways:
                    speed = round(shape[0] * shape[1] * size / times[0][way] / 1e9, 1)
                    us = [round(each[way] * 1e6, 1) for each in times]
                    rows.append({"shape": shape, "form": name, "way": way, "us": us, "gb_s_of_one_row": speed})
                    print(f"{shape!s:>14} {name:<13} {way:<8}", *(f"{each:9.1f}" for each in us), f"{speed:7.1f}")
    machine = {"machine": platform.platform(), "threads": given.threads, "torch": torch.__version__}
    machine["bandwidth"] = round(read)
    print(json.dumps({**machine, "load_average": os.getloadavg(), "rows_of_x": ROWS, "rows": rows}))


if __name__ == "__main__":
    main()
