"""A matrix product with a weight that never changes: oneDNN's packed form where it is faster, PyTorch's own elsewhere.

Not a layer: no activation, no ranks; quantized weights have their products in quantize/products.py. The only file that
calls PyTorch's private oneDNN operators; their results are held against torch.nn.functional.linear in the tests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heavylift_runtime.native.quantize.forms import Matrix
from heavylift_runtime.native.quantize.products import product_of

PACK_FROM = {torch.float32: 2**17, torch.bfloat16: 0}
"""Numbers in a weight from which packing wins; benchmarks/linear.py measures it. A packed call costs about 11 µs
more than torch.mm, which a fp32 weight of 128 x 128 never earns back; bf16 goes through oneDNN in either case."""


def can_pack(weight: Tensor) -> bool:
    """Whether this build of PyTorch has the packed form for the weight's type and device."""
    return weight.device.type == "cpu" and weight.dtype in PACK_FROM and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear:
    """`x @ weight.T + bias` for x of shape (N, in), a weight of shape (out, in), and a bias (out,) or none."""

    def __init__(self, weight: Matrix, bias: Tensor | None = None, *, packed: bool | None = None) -> None:
        """`packed`: None lets the size decide; the plain weight is not kept beside the packed one."""
        self._bias = bias
        self._quantized = None if isinstance(weight, Tensor) else product_of(weight)
        if not isinstance(weight, Tensor):
            self.packed = False
            return
        if packed is None:
            packed = can_pack(weight) and weight.numel() >= PACK_FROM[weight.dtype]
        self.packed = packed
        if packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
            self._product = torch.ops.mkldnn._linear_pointwise.default
            self._sum = torch.ops.mkldnn._linear_pointwise.binary
        else:
            self._weight = weight.t()

    def __call__(self, x: Tensor) -> Tensor:
        """(N, in) → (N, out)"""
        if self._quantized is not None:
            found = self._quantized(x)
            return found if self._bias is None else found.add_(self._bias)
        if self.packed:
            product: Tensor = self._product(x, self._weight, self._bias, "none", [], "")
            return product
        return torch.mm(x, self._weight) if self._bias is None else torch.addmm(self._bias, x, self._weight)

    def onto(self, base: Tensor, x: Tensor) -> Tensor:
        """base + x @ weight.T + bias, for base of shape (N, out)"""
        if self._quantized is not None:
            return self(x).add_(base)
        if self.packed:
            total: Tensor = self._sum(x, base, self._weight, self._bias, "add")
            return total
        total = torch.addmm(base, x, self._weight)
        return total if self._bias is None else total.add_(self._bias)
