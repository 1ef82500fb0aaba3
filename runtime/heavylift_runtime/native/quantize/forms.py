"""What a Linear's weight may be in memory: numbers as they are, or whole numbers with scales.

Not the rounding (rounding.py), not several as one (joined.py) and not the products (products.py). A form's fields have
a matrix's outputs as their dimension 0, so that outputs are parted and reordered as they are for a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scaled:
    """weight = levels * scale, a scale for each output."""

    levels: Tensor
    """(out, in)"""
    scale: Tensor
    """(out,) fp32"""

    @property
    def shape(self) -> torch.Size:
        return self.levels.shape

    def dense(self) -> Tensor:
        """(out, in) fp32"""
        return self.levels.float() * self.scale.unsqueeze(1)


class Int8(Scaled):
    """Levels of int8."""


class DynamicInt8(Int8):
    """Int8 for products in which activations are rounded to 8 bits, too."""


class Float8(Scaled):
    """Levels of float8_e4m3fn: 4 bits of exponent, 3 of mantissa (Micikevicius et al. 2022)."""


@dataclass(frozen=True)
class Int4:
    """weight = (levels - 8) * scale + middle, with both for each group of neighbouring inputs of each output."""

    levels: Tensor
    """(out, in / 2) uint8: two levels of 0..15 in each, the first in the lower half"""
    scale: Tensor
    """(out, groups) bf16, as the kernel wants it"""
    middle: Tensor
    """(out, groups) bf16: what level 8 stands for"""

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.levels), 2 * self.levels.shape[1]))

    @property
    def group(self) -> int:
        """Inputs of a group."""
        return self.shape[1] // self.scale.shape[1]

    def dense(self) -> Tensor:
        """(out, in) fp32"""
        grouped = unpacked(self.levels).view(*self.scale.shape, self.group).float().sub_(8)
        return grouped.mul_(self.scale.unsqueeze(2)).add_(self.middle.unsqueeze(2)).flatten(1)


Form = Int8 | Float8 | Int4
Matrix = Tensor | Form
"""A Linear's weight, (out, in)."""


def packed(levels: Tensor) -> Tensor:
    """Levels of 0..15, (out, in), two in a byte: (out, in / 2) uint8."""
    low, high = levels.to(torch.uint8).reshape(len(levels), -1, 2).unbind(2)
    return low | high << 4


def unpacked(levels: Tensor) -> Tensor:
    """The inverse of `packed`."""
    return torch.stack([levels & 15, levels >> 4], 2).flatten(1)


def each(matrix: Matrix, change: Callable[[Tensor], Tensor]) -> Matrix:
    """The matrix with its outputs changed: `change` sees tensors with the outputs as dimension 0."""
    if isinstance(matrix, Tensor):
        return change(matrix)
    return type(matrix)(*(change(getattr(matrix, field.name)) for field in fields(matrix)))
