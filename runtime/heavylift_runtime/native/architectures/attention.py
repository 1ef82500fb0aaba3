"""Attention of decoder-only models, over prompts and token by token: rotation, cache, group of heads.

Not the products around it (blocks.py): it gets fused queries, keys and values, and gives mixed values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from heavylift_runtime.families.decoder import Shape
from heavylift_runtime.native.cache import TextCache
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.layers import attend, attend_causally, slopes_of
from heavylift_runtime.native.rotary import Rotation


@dataclass(frozen=True)
class Heads:
    """One rank's heads: H for queries, P for keys and values, each D wide; P divides H."""

    queries: int
    pairs: int
    width: int
    windows: tuple[int | None, ...]
    rotation: Rotation | None
    slopes: Tensor | None
    """(H,), of a model whose attention fades with distance (ALiBi)."""

    @classmethod
    def of(cls, shape: Shape, group: Group, dtype: torch.dtype, *, fading: bool = False) -> Heads:
        """Rank r holds the r-th part of the query heads, and the key-value heads that those share."""
        queries = shape.heads // group.world
        slopes = slopes_of(shape.heads)[group.rank * queries :][:queries] if fading else None
        rotation = None if shape.rotary is None else Rotation(shape.rotary, dtype)
        return cls(queries, max(1, shape.pairs // group.world), shape.head_width, shape.window_of, rotation, slopes)

    @property
    def scale(self) -> float:
        return float(self.width**-0.5)


class Pass(Protocol):
    """One pass of tokens through all layers."""

    def mix(self, layer: int, qkv: Tensor) -> Tensor:
        """(N, (H + 2 P) * D) → (N, H * D); the argument is overwritten."""


class Reading:
    """Prompts, one after the other without padding; each attends to itself, and the cache remembers it."""

    def __init__(self, heads: Heads, cache: TextCache, first: int, lengths: Sequence[int]) -> None:
        """`first`: the row of the cache that the first of these prompts has."""
        self._heads, self._cache, self._first, self._lengths = heads, cache, first, list(lengths)
        self.positions = torch.cat([torch.arange(length) for length in lengths])
        self._turns = None if heads.rotation is None else heads.rotation.at(self.positions)

    def mix(self, layer: int, qkv: Tensor) -> Tensor:
        heads = self._heads
        split = qkv.view(len(qkv), -1, heads.width)  # (N, H + 2 P, D)
        if heads.rotation is not None and self._turns is not None:
            heads.rotation.turn_(split.narrow(1, 0, heads.queries + heads.pairs), self._turns)
        mixed = []
        for row, text in enumerate(torch.split(split, self._lengths), self._first):
            query, keys, values = torch.split(text.transpose(0, 1), [heads.queries, heads.pairs, heads.pairs])
            self._cache.fill(layer, row, keys, values)
            mixed.append(attend_causally(query, keys, values, heads.scale, heads.slopes, heads.windows[layer]))
        return torch.cat(mixed)


class Continuing:
    """One more token of each row, at `positions` (B,)."""

    def __init__(self, heads: Heads, cache: TextCache, positions: Tensor) -> None:
        self._heads, self._cache = heads, cache
        self._turns = None if heads.rotation is None else heads.rotation.at(positions)
        self._slots, self._biases = cache.next()

    def mix(self, layer: int, qkv: Tensor) -> Tensor:
        heads, rows = self._heads, len(qkv)
        split = qkv.view(rows, -1, heads.width)  # (B, H + 2 P, D)
        if heads.rotation is not None and self._turns is not None:
            heads.rotation.turn_(split.narrow(1, 0, heads.queries + heads.pairs), self._turns)
        pairs = split.narrow(1, heads.queries, 2 * heads.pairs).view(rows, 2, heads.pairs, heads.width)
        self._slots[layer].copy_(pairs.transpose(0, 1))
        query = split.narrow(1, 0, heads.queries).reshape(rows * heads.pairs, -1, heads.width)
        cache = self._cache
        mixed = attend(query, cache.keys[layer], cache.values[layer], self._biases[layer], heads.scale)
        return mixed.view(rows, heads.queries * heads.width)
