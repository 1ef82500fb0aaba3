"""Rotary positions (Su et al. 2021): turns queries and keys by an angle that grows with the token's position.

Not the reading of config.json: that is families/rotary.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from heavylift_runtime.families.rotary import Llama3, Rotary


class Rotation:
    """The angles of one model; the same for all layers and heads."""

    def __init__(self, rotary: Rotary, dtype: torch.dtype) -> None:
        self._width, self._interleaved, self._dtype = rotary.width, rotary.interleaved, dtype
        speeds = frequencies(rotary)
        # each pair twice, as its numbers lie in a head, and the sign with which its partner is added
        self._speeds = speeds.repeat_interleave(2) if rotary.interleaved else speeds.repeat(2)  # (R,)
        minus, plus = -torch.ones_like(speeds), torch.ones_like(speeds)
        self._signs = torch.stack([minus, plus], 1).flatten() if rotary.interleaved else torch.cat([minus, plus])

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) int64 → cosines and signed sines, each (N, 1, R)"""
        angles = (positions.unsqueeze(1).float() * self._speeds).unsqueeze(1)
        return angles.cos().to(self._dtype), (angles.sin() * self._signs).to(self._dtype)

    def turn_(self, heads: Tensor, turns: tuple[Tensor, Tensor]) -> None:
        """Turns heads (N, K, D), in place."""
        cosines, sines = turns
        part = heads.narrow(2, 0, self._width)
        if self._interleaved:
            partners = part.view(*part.shape[:2], -1, 2).flip(3).flatten(2)
        else:
            partners = part.roll(self._width // 2, 2)
        torch.addcmul(part * cosines, partners, sines, out=part)


def frequencies(rotary: Rotary) -> Tensor:
    """Radians by which each pair turns per position: (R / 2,) fp32."""
    exponents = torch.arange(0, rotary.width, 2).float() / rotary.width
    speeds = 1.0 / (rotary.theta**exponents) / rotary.linear
    return speeds if rotary.llama3 is None else _stretched(speeds, rotary.llama3)


def _stretched(speeds: Tensor, by: Llama3) -> Tensor:
    """Llama 3.1's (Dubey et al. 2024): long waves slowed by the factor, short ones kept, those between blended."""
    waves = 2 * math.pi / speeds
    share = ((by.original / waves - by.low) / (by.high - by.low)).clamp(0, 1)
    return (1 - share) * speeds / by.factor + share * speeds
