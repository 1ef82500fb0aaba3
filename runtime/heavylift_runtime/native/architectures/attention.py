"""Attention of one pass over the cache: a token of each row by batched products, each portion of a prompt alone.

Not the products around it (blocks.py): it gets fused queries, keys and values, and gives mixed values.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from heavylift_runtime.families.decoder import Shape
from heavylift_runtime.native.batch import Batch
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.kernels.recording import between
from heavylift_runtime.native.layers import attend, slopes_of
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.rotary import Rotation
from heavylift_runtime.native.sight import Past, Sight, causal, fading

STEP = 16
"""Places by which what is attended over grows, so that views are made anew only now and then."""


@dataclass(frozen=True)
class Heads:
    """One rank's heads: H for queries, P for keys and values, each D wide; P divides H."""

    queries: int
    pairs: int
    width: int
    sights: tuple[Sight, ...]
    """For each layer of the stage; layers of one kind share one."""
    rotation: Rotation | None = None
    scale: float = 1.0

    @property
    def kinds(self) -> tuple[Sight, ...]:
        """Each sight once."""
        return tuple(dict.fromkeys(self.sights))

    @classmethod
    def of(cls, shape: Shape, weights: Weights, group: Group, *, fades: bool = False) -> Heads:
        """Rank r holds the r-th part of the query heads, and the key-value heads that those share."""
        queries, dtype, layers = shape.heads // group.world, weights.dtype, weights.stage.layers(shape.layers)
        if fades:  # ALiBi
            slopes = slopes_of(shape.heads)[group.rank * queries :][:queries]
            sights = (fading(dtype, slopes),) * len(layers)
        else:
            kinds = {window: causal(dtype, window) for window in shape.window_of}
            sights = tuple(kinds[shape.window_of[layer]] for layer in layers)
        rotation = None if shape.rotary is None else Rotation(shape.rotary, dtype)
        pairs = max(1, shape.pairs // group.world)
        return cls(queries, pairs, shape.head_width, sights, rotation, float(shape.head_width**-0.5))


class Rows(NamedTuple):
    """Neighbouring rows that attend together, over the first `span` places of each one's cache."""

    first: int
    last: int
    slot: int
    """The first one's."""
    seen: dict[Sight, Past]
    """(rows * P, 1 or H / P, span), by each layer's kind."""
    keys: list[Tensor]
    values: list[Tensor]


class Pass:
    """One pass of a batch through the layers of a decoder, each token seeing what is before it in its own text."""

    def __init__(self, heads: Heads, store: Store, batch: Batch) -> None:
        self._heads, self._store, self._batch = heads, store, batch
        rotation = heads.rotation
        furthest = max([0, *batch.at, *[chunk.first + chunk.count for chunk in batch.chunks]])
        self._angles = None if rotation is None else rotation.known(batch.positions, furthest)
        count = len(batch.at)
        each = count // batch.turns
        self._places = store.places(batch.first, self._positions(0, count), batch.turns) if count else None
        lengths = [at + 1 for at in batch.at]
        self._rows = [
            self._together(turn + first, turn + last, batch.first + first, span)
            for turn in range(0, count, max(1, each))
            for first, last, span in runs(lengths[turn : turn + each], apart=batch.apart)
        ]
        self._padding = len(batch.tokens) - count - sum(chunk.count for chunk in batch.chunks)
        self._masks: dict[tuple[int, int], Tensor | None] = {}

    def pick(self, x: Tensor) -> Tensor:
        """(N, d) → (M, d), of the tokens that are wanted"""
        return self._batch.pick(x)

    @property
    def form(self) -> Hashable:
        """What two passes have in common that differ in positions alone; None: it is not of rows only."""
        if self._batch.chunks:
            return None
        return self._store, tuple((rows.first, rows.last, rows.slot) for rows in self._rows)

    def follow(self, other: Pass) -> None:
        """Becomes another pass of the same form, in the same places of memory."""
        self._batch.positions.copy_(other._batch.positions)
        if self._angles is not None and other._angles is not None:
            self._angles.become(other._angles)
        for rows, following in zip(self._rows, other._rows, strict=True):
            for sight, seen in rows.seen.items():
                seen.become(following.seen[sight])

    def _positions(self, first: int, last: int) -> Tensor:
        """Of the tokens [first, last), where the batch has them"""
        positions = self._batch.positions
        return positions if last - first == len(positions) else positions[first:last]

    def _together(self, first: int, last: int, slot: int, span: int) -> Rows:
        """Tokens [first, last) of the rows in the slots from `slot` on, of which the longest has `span` tokens."""
        span = min(-(-span // STEP) * STEP, self._store.room)
        positions = self._positions(first, last)
        seen = {sight: sight.seen(positions, span, self._heads.pairs) for sight in self._heads.kinds}
        return Rows(first, last, slot, seen, *self._store.views(slot, last - first, span))

    def mix(self, layer: int, qkv: Tensor) -> Tensor:
        """(N, (H + 2 P) * D) → (N, H * D); the argument is overwritten."""
        heads, pairs = self._heads, self._heads.pairs
        split = qkv.view(qkv.shape[0], -1, heads.width)  # (N, H + 2 P, D)
        if heads.rotation is not None and self._angles is not None:
            heads.rotation.turn_(split.narrow(1, 0, heads.queries + pairs), self._angles)
        queries, remembered = split.narrow(1, 0, heads.queries), split.narrow(1, heads.queries, 2 * pairs)
        if self._places is not None:
            self._store.put(layer, self._places, remembered[: len(self._batch.at)])
        mixed = kernels.empty(qkv, len(qkv), heads.queries, heads.width)
        for rows in self._rows:
            own = slice(rows.first, rows.last)
            keys, values = rows.keys[layer], rows.values[layer]
            attend(queries[own], keys, values, rows.seen[heads.sights[layer]], heads.scale, mixed[own])
        at = len(self._batch.at)
        for chunk in self._batch.chunks:
            part = remembered[at : at + chunk.count].view(chunk.count, 2, pairs, heads.width)
            self._store.write(layer, chunk.slot, chunk.first, part)
            own = slice(at, at + chunk.count)
            mixed[own] = self._portion(layer, chunk.slot, chunk.first, queries[own])
            at += chunk.count
        if self._padding:
            between(mixed[at:].zero_)
        return mixed.flatten(1)

    def _portion(self, layer: int, slot: int, first: int, query: Tensor) -> Tensor:
        """Tokens [first, first + n) of one text over those up to themselves: (n, H, D) → the same"""
        heads, count, sight = self._heads, len(query), self._heads.sights[layer]
        keys, values = self._store.read(layer, slot, first + count)
        mask = None
        if not (sight.plain and first == 0):
            if (slot, id(sight)) not in self._masks:
                positions = torch.arange(first, first + count)
                self._masks[slot, id(sight)] = sight.of(positions, first + count).unsqueeze(0)
            mask = self._masks[slot, id(sight)]
        return together(query, keys, values, mask, heads.scale, is_causal=mask is None)


def together(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, *, is_causal: bool = False
) -> Tensor:
    """Attention of one text's tokens: q (n, H, D), k and v (P, T, D), mask (1, 1 or H, n, T) → (n, H, D)"""
    mixed = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None], keys[None], values[None],
        attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=query.shape[1] != len(keys),
    )  # fmt: skip
    return mixed.squeeze(0).transpose(0, 1)


def runs(lengths: Sequence[int], *, apart: bool = False) -> Iterator[tuple[int, int, int]]:
    """Neighbours [first, last) and the longest of them, such that at most half of their common span is padding.

    `apart`: each one alone.
    """
    first = total = longest = 0
    for place, length in enumerate(lengths):
        wider = max(longest, length)
        if place > first and (apart or (place + 1 - first) * wider > 2 * (total + length)):
            yield first, place, longest
            first, total, wider = place, 0, length
        total, longest = total + length, wider
    if lengths:
        yield first, len(lengths), longest
