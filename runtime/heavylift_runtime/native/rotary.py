"""Rotary positions (Su et al. 2021): turns queries and keys by an angle that grows with the token's position.

Not the reading of config.json: that is families/rotary.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from heavylift_runtime.families.rotary import Llama3, Rotary, Yarn
from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.kernels.lookups import Angles

FIRST = 256
"""Positions whose angles are known from the start; twice as many once there is one beyond."""


class Rotation:
    """The angles of one model; the same for all layers and heads."""

    def __init__(self, rotary: Rotary, dtype: torch.dtype) -> None:
        self._width, self._interleaved, self._dtype = rotary.width, rotary.interleaved, dtype
        self._length, self._reach = rotary.length, 0
        speeds = frequencies(rotary)
        # each pair twice, as its numbers lie in a head, and the sign with which its partner is added
        self._speeds = speeds.repeat_interleave(2) if rotary.interleaved else speeds.repeat(2)  # (R,)
        minus, plus = -torch.ones_like(speeds), torch.ones_like(speeds)
        self._signs = torch.stack([minus, plus], 1).flatten() if rotary.interleaved else torch.cat([minus, plus])

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) int64 → cosines and signed sines, each (N, 1, R)"""
        angles = (positions.unsqueeze(1).float() * self._speeds).unsqueeze(1)
        cosines, sines = angles.cos() * self._length, angles.sin() * (self._signs * self._length)
        return cosines.to(self._dtype), sines.to(self._dtype)

    def known(self, positions: Tensor, furthest: int) -> Angles:
        """The same, of positions none of which is beyond `furthest`, from a table that grows."""
        if furthest >= self._reach:
            self._reach = max(FIRST, 2 * furthest)
            self._table = self.at(torch.arange(self._reach))
        return Angles(*self._table, positions)

    def turn_(self, heads: Tensor, angles: Angles) -> None:
        """Turns heads (N, K, D), in place."""
        if kernels.usable(heads):
            return kernels.turn_(heads, angles, paired=self._interleaved)
        cosines, sines = angles.rows
        part = heads.narrow(2, 0, self._width)
        if self._interleaved:
            partners = part.view(*part.shape[:2], -1, 2).flip(3).flatten(2)
        else:
            partners = part.roll(self._width // 2, 2)
        part.mul_(cosines).addcmul_(partners, sines)


def frequencies(rotary: Rotary) -> Tensor:
    """Radians by which each pair turns per position: (R / 2,) fp32."""
    exponents = torch.arange(0, rotary.width, 2).float() / rotary.width
    speeds = 1.0 / (rotary.theta**exponents) / rotary.linear
    if rotary.factors:
        return 1.0 / (torch.tensor(rotary.factors) * rotary.theta**exponents)
    if rotary.yarn is not None:
        return _blended(speeds, rotary, rotary.yarn)
    return speeds if rotary.llama3 is None else _stretched(speeds, rotary.llama3)


def _blended(speeds: Tensor, rotary: Rotary, by: Yarn) -> Tensor:
    """YaRN's: the pair that turns so many times within the original length lies where its formula says."""

    def pair(turns: float) -> float:
        return rotary.width * math.log(by.original / (turns * 2 * math.pi)) / (2 * math.log(rotary.theta))

    first, last = pair(by.fast), pair(by.slow)
    if by.whole:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, rotary.width - 1)
    last = last + 0.001 if first == last else last
    slowed = ((torch.arange(len(speeds)).float() - first) / (last - first)).clamp(0, 1)
    return speeds / by.factor * slowed + speeds * (1 - slowed)


def _stretched(speeds: Tensor, by: Llama3) -> Tensor:
    """Llama 3.1's (Dubey et al. 2024): long waves slowed by the factor, short ones kept, those between blended."""
    waves = 2 * math.pi / speeds
    share = ((by.original / waves - by.low) / (by.high - by.low)).clamp(0, 1)
    return (1 - share) * speeds / by.factor + share * speeds
