"""Several matrices as one: their outputs one after another, or their inputs.

Not the forms (forms.py). What is not of one form already is brought to one, for a product knows only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from heavylift_runtime.native.quantize.forms import Float8, Int4, Matrix, Scaled
from heavylift_runtime.native.quantize.rounding import int8_of


def stacked(parts: Sequence[Matrix]) -> Matrix:
    """Matrices of the same inputs as one: their outputs one after another."""
    parts = _alike(parts)
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return type(first)(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(first)))


def beside(parts: Sequence[Matrix]) -> Matrix:
    """Matrices of the same outputs as one: their inputs one after another.

    Of Scaled ones, an output's larger scale holds for both: what had the smaller one is rounded a second time.
    """
    parts = _alike(parts)
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)], 1)
    if isinstance(first, Int4):
        return Int4(*(torch.cat([getattr(part, field.name) for part in parts], 1) for field in fields(first)))
    scaled = [part for part in parts if isinstance(part, Scaled)]
    scale = torch.stack([part.scale for part in scaled]).amax(0)
    return type(scaled[0])(torch.cat([_rescaled(part, scale) for part in scaled], 1), scale)


def _rescaled(part: Scaled, scale: Tensor) -> Tensor:
    """The levels under a scale that is at least the part's own."""
    levels = part.levels.float() * (part.scale / scale).unsqueeze(1)
    return levels.to(part.levels.dtype) if isinstance(part, Float8) else levels.round_().to(torch.int8)


def _alike(parts: Sequence[Matrix]) -> Sequence[Matrix]:
    """All of one form: of plain numbers, in their type, where one is; of the smallest group; else of 8 bits."""
    plain = next((part.dtype for part in parts if isinstance(part, Tensor)), None)
    if plain is not None:
        return [part if isinstance(part, Tensor) else part.dense().to(plain) for part in parts]
    if len({type(part) for part in parts}) > 1:
        return [int8_of(part.dense()) if isinstance(part, Int4 | Float8) else part for part in parts]
    least = min((part.group for part in parts if isinstance(part, Int4)), default=0)
    return [_in_groups(part, least) if isinstance(part, Int4) else part for part in parts]


def _in_groups(part: Int4, group: int) -> Int4:
    """The same numbers in smaller groups (each size that the kernel reads divides the larger ones)."""
    if (times := part.group // group) == 1:
        return part
    return Int4(part.levels, *(each.repeat_interleave(times, 1) for each in (part.scale, part.middle)))
