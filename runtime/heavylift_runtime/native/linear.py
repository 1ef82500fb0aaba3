"""A matrix product with a weight that never changes, by the fastest way that there is for it here.

Not a layer: no activation, no ranks. The ways: our own kernels (kernels/), which take the weight as it is; without
them oneDNN's packed form where it is faster, and PyTorch's plain product elsewhere; for whole numbers without our
kernels those of quantize/products.py. The only file that calls PyTorch's private oneDNN operators; all ways are held
against torch.nn.functional.linear in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch
from torch import Tensor

from heavylift_runtime.native.kernels import calls
from heavylift_runtime.native.quantize.forms import DynamicInt8, Float8, Form, Int4, Int8, Matrix
from heavylift_runtime.native.quantize.products import product_of

PACK_FROM = {torch.float32: 2**17, torch.bfloat16: 0}
"""Numbers in a weight from which packing wins; benchmarks/linear.py measures it. A packed call costs about 11 µs
more than torch.mm, which a fp32 weight of 128 x 128 never earns back; bf16 goes through oneDNN in either case."""


class Product(Protocol):
    def __call__(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """x @ weight.T + bias + base: (N, in) → (N, out)"""


class Plain:
    """PyTorch's own product."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight.t(), bias

    def __call__(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        if base is None:
            return torch.mm(x, self._weight) if self._bias is None else torch.addmm(self._bias, x, self._weight)
        total = torch.addmm(base, x, self._weight)
        return total if self._bias is None else total.add_(self._bias)


class Packed:
    """oneDNN's product with a weight in blocks of its own; the plain weight is not kept beside them."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None), bias
        self._product = torch.ops.mkldnn._linear_pointwise.default
        self._sum = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        if base is None:
            product: Tensor = self._product(x, self._weight, self._bias, "none", [], "")
            return product
        total: Tensor = self._sum(x, base, self._weight, self._bias, "add")
        return total


class Rounded:
    """PyTorch's product with a quantized weight."""

    def __init__(self, weight: Form, bias: Tensor | None) -> None:
        self._product, self._bias = product_of(weight), bias

    def __call__(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        found = self._product(x)
        if self._bias is not None:
            found.add_(self._bias)
        return found if base is None else found.add_(base)


def can_pack(weight: Tensor) -> bool:
    """Whether this build of PyTorch has the packed form for the weight's type and device."""
    return weight.device.type == "cpu" and weight.dtype in PACK_FROM and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def way_of(weight: Matrix, *, shared: bool = False) -> Callable[..., Product]:
    """The fastest product of a weight; `shared`: it is held elsewhere, too, so that a packed one would be a second."""
    if isinstance(weight, Int8):
        return calls.Product if calls.usable(weight.scale) and weight.shape[1] <= calls.LONGEST else Rounded
    if isinstance(weight, Int4 | Float8):
        return Rounded
    if calls.usable(weight):
        return calls.Product
    return Packed if not shared and can_pack(weight) and weight.numel() >= PACK_FROM[weight.dtype] else Plain


_drafting: ContextVar[bool] = ContextVar("drafting", default=False)


@contextmanager
def drafting() -> Iterator[None]:
    """Inside, weights and activations are rounded to 8 bits, where our kernels multiply with plain ones."""
    token = _drafting.set(True)
    try:
        yield
    finally:
        _drafting.reset(token)


def is_drafting() -> bool:
    """Whether what is computed is a draft."""
    return _drafting.get()


class Linear:
    """`x @ weight.T + bias` for x of shape (N, in), a weight of shape (out, in), and a bias (out,) or none."""

    def __init__(
        self,
        weight: Matrix,
        bias: Tensor | None = None,
        *,
        shared: bool = False,
        way: Callable[..., Product] | None = None,
    ) -> None:
        """`way`: None takes the fastest one."""
        self._product = (way_of(weight, shared=shared) if way is None else way)(weight, bias)
        able = isinstance(self._product, calls.Product) and weight.shape[1] <= calls.LONGEST
        self._exact = (weight, bias) if able and isinstance(weight, Tensor) else None
        self._rough: Product | None = None

    def _now(self) -> Product:
        if self._exact is None or not is_drafting():
            return self._product
        if self._rough is None:  # from here on it takes a half or a quarter more memory
            weight, bias = self._exact
            rounded, _, _ = calls.narrow(weight)
            self._rough = calls.Product(DynamicInt8(rounded.levels, rounded.scale), bias)
        return self._rough

    def __call__(self, x: Tensor) -> Tensor:
        """(N, in) → (N, out)"""
        return self._now()(x)

    def onto(self, base: Tensor, x: Tensor) -> Tensor:
        """base + x @ weight.T + bias, for base of shape (N, out)"""
        return self._now()(x, base)
