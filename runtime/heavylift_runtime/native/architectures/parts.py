"""Layers made of a checkpoint's weights by their names, as several families need them.

Not a family's names: those come from its file.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heavylift_runtime.native.layers import LayerNorm
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.quantize.forms import Matrix, each
from heavylift_runtime.native.quantize.joined import stacked

Parts = tuple[Matrix, Tensor | None]
"""A Linear's weight (out, in) and its bias (out,), where it has one."""


def linear_of(weights: Weights, name: str, bias: bool = True) -> Parts:
    """A Linear's weight and bias, in the order of the table."""
    return weights.matrix(f"{name}.weight"), weights.take(f"{name}.bias") if bias else None


def fused(parts: Sequence[Parts]) -> Linear:
    """Several Linears of the same input as one."""
    biases = [bias for _, bias in parts if bias is not None]
    return Linear(stacked([weight for weight, _ in parts]), torch.cat(biases) if biases else None)


def by_kind(parts: Parts, width: int) -> Linear:
    """q, k, v that lie head by head, (H * 3 * width, d), as all queries, all keys, all values."""

    def change(part: Tensor) -> Tensor:
        return part.view(-1, 3, width, *part.shape[1:]).transpose(0, 1).flatten(0, 2)

    weight, bias = parts
    return Linear(each(weight, change), None if bias is None else change(bias))


def norm_of(weights: Weights, name: str, epsilon: float) -> LayerNorm:
    return LayerNorm(weights.take(f"{name}.weight"), weights.take(f"{name}.bias"), epsilon)
