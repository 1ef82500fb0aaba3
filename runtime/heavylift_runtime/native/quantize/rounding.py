"""Numbers rounded to few levels: 8 bits with a scale for each output, 4 bits with a scale and a base for each group.

Not a calibration: it sees weights only, no activations (published AWQ and GPTQ checkpoints come with theirs done).
"""

from __future__ import annotations

import torch
from torch import Tensor

from heavylift_runtime.native.quantize.forms import Float8, Int4, Int8, packed

SPAN = 256 * 1024
"""Numbers that are rounded at once; what they take on the way is 8 MiB."""
SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8)
"""A group's range is cut by each of these, and the one whose squares of errors sum to the least is taken."""


def int8_of(weight: Tensor) -> Int8:
    """(out, in) in any type and layout; an output's largest number becomes 127."""
    levels = torch.empty(weight.shape, dtype=torch.int8)
    scale = torch.empty(len(weight))
    for rows in _spans(weight):
        part = weight[rows].float()
        top = part.abs().amax(1).div_(127)
        scale[rows] = top
        levels[rows] = (part / top.masked_fill(top == 0, 1).unsqueeze(1)).round_().to(torch.int8)
    return Int8(levels, scale)


def float8_of(weight: Tensor) -> Float8:
    """(out, in) in any type and layout; an output's largest number becomes the largest that there is."""
    levels = torch.empty(weight.shape, dtype=torch.float8_e4m3fn)
    scale = torch.empty(len(weight))
    for rows in _spans(weight):
        part = weight[rows].float()
        top = part.abs().amax(1).div_(torch.finfo(levels.dtype).max)
        scale[rows] = top
        levels[rows] = (part / top.masked_fill(top == 0, 1).unsqueeze(1)).to(levels.dtype)
    return Float8(levels, scale)


def int4_of(weight: Tensor, group: int) -> Int4:
    """(out, in), of which `group` divides the inputs; levels are chosen for scale and middle as bf16 has them."""
    out, inputs = weight.shape
    levels = torch.empty(out, inputs // 2, dtype=torch.uint8)
    scale, middle = (torch.empty(out, inputs // group, dtype=torch.bfloat16) for _ in range(2))
    for rows in _spans(weight):
        found, scale[rows], middle[rows] = _four(weight[rows].float().reshape(-1, inputs // group, group))
        levels[rows] = packed(found.flatten(1))
    return Int4(levels, scale, middle)


def _four(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(R, groups, group) fp32 → levels of the same shape, scale and middle (R, groups)."""
    low, high = part.amin(2), part.amax(2)
    least = torch.full_like(low, torch.inf)
    best = torch.zeros_like(part), low, high
    for share in SHRUNK:
        scale = ((high - low) * (share / 15)).bfloat16().float()
        middle = ((low + high - (high - low) * share) / 2 + 8 * scale).bfloat16().float()
        step = scale.masked_fill(scale == 0, 1).unsqueeze(2)
        levels = ((part - middle.unsqueeze(2)) / step).round_().clamp_(-8, 7)
        error = torch.addcmul(middle.unsqueeze(2), levels, scale.unsqueeze(2)).sub_(part).square_().sum(2)
        better = error < least
        least = torch.where(better, error, least)
        best = (
            torch.where(better.unsqueeze(2), levels.add_(8), best[0]),
            torch.where(better, scale, best[1]),
            torch.where(better, middle, best[2]),
        )
    return best


def _spans(weight: Tensor) -> list[slice]:
    """Outputs that are rounded together."""
    count = max(1, SPAN // weight.shape[1])
    return [slice(first, first + count) for first in range(0, len(weight), count)]
