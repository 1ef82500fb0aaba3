"""One matrix product by each of the forms that a weight can have: `python benchmarks/linear.py [--threads N]`.

Not an engine: products only, of T5-base's and a Llama of 350 M parameters' shapes, by rows. Weights are rotated through
200 MB, so that they come from memory and not from a cache; microseconds of the fastest
tenth of the calls are shown. From these numbers come linear.PACK_FROM and the choice of products in
quantize/products.py. The last line is one JSON object.
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

from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.quantize.forms import DynamicInt8
from heavylift_runtime.native.quantize.rounding import int4_of, int8_of

SHAPES = ((128, 128), (768, 768), (2304, 768), (32128, 768), (5632, 1024))
ROWS = (1, 2, 4, 16, 64)
BYTES, SECONDS = 200_000_000, 0.1
FORMS: dict[str, tuple[torch.dtype, float, Callable[[Tensor], Callable[[Tensor], Tensor]]]] = {
    "fp32": (torch.float32, 4, lambda weight: Linear(weight, packed=False)),
    "fp32 packed": (torch.float32, 4, lambda weight: Linear(weight, packed=True)),
    "bf16": (torch.bfloat16, 2, lambda weight: Linear(weight.bfloat16(), packed=False)),
    "bf16 packed": (torch.bfloat16, 2, lambda weight: Linear(weight.bfloat16(), packed=True)),
    "int8": (torch.float32, 1, lambda weight: Linear(int8_of(weight))),
    "dynamic int8": (torch.float32, 1, lambda weight: Linear(DynamicInt8(*vars(int8_of(weight)).values()))),
    "int4": (torch.bfloat16, 0.625, lambda weight: Linear(int4_of(weight, 32))),
}
"""Form → the activations' type, bytes for each weight, and how it is made."""


def fastest(products: list[Callable[[Tensor], Tensor]], x: Tensor) -> float:
    """Seconds of a call, of the fastest tenth."""
    found, until = [], time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        for product in products:
            started = time.perf_counter()
            product(x)
            found.append(time.perf_counter() - started)
    return sorted(found)[len(found) // 10]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    rows = []
    with torch.inference_mode():
        for shape in SHAPES:
            weight = torch.randn(shape)
            for name, (dtype, size, make) in FORMS.items():
                count = min(16, max(2, int(BYTES / size / weight.numel())))
                products = [make(weight) for _ in range(count)]
                times = [fastest(products, torch.randn(many, shape[1]).to(dtype)) for many in ROWS]
                rows.append({"shape": shape, "form": name, "us": [round(seconds * 1e6, 1) for seconds in times],
                             "gb_s_of_one_row": round(weight.numel() * size / times[0] / 1e9, 1)})  # fmt: skip
                print(f"{shape!s:>14} {name:<13}", *(f"{seconds * 1e6:9.1f}" for seconds in times), flush=True)
    machine = {"machine": platform.platform(), "threads": given.threads, "torch": torch.__version__}
    print(json.dumps({**machine, "load_average": os.getloadavg(), "rows_of_x": ROWS, "rows": rows}))


if __name__ == "__main__":
    main()
