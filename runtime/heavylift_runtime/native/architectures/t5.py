"""T5's forward pass (Raffel et al. 2020) on one rank of a group: whole sources, and the decoder's tokens.

Not its table of weights (families/t5.py), not the choice of who is in a pass (scheduler.py). S source positions, H
heads of this rank, D their width, d the model's width; activations are flat, (N, d), without padding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heavylift_runtime.families.t5 import (
    DECODER_CROSS,
    DECODER_FF,
    DECODER_SELF,
    ENCODER_FF,
    ENCODER_SELF,
    HEAD,
    SHARED,
    Shape,
)
from heavylift_runtime.native.architectures.attention import STEP, Heads, Pass, runs, together
from heavylift_runtime.native.architectures.blocks import Output
from heavylift_runtime.native.batch import Batch, Source
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.layers import ACTIVATIONS, PositionBias, RMSNorm, attend, gated
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.quantize.forms import stacked
from heavylift_runtime.native.sight import Sight
from heavylift_runtime.native.vocabulary import Vocabulary


class SelfAttention:
    """Norm, fused q, k, v, and output of a block; the first block of a stack also brings the bias of all."""

    def __init__(self, weights: Weights, prefix: str, shape: Shape, group: Group, *, first: bool) -> None:
        self.norm = RMSNorm(weights.take(f"{prefix}.layer_norm.weight"), shape.epsilon)
        attention = f"{prefix}.SelfAttention"
        self.qkv = Linear(stacked([weights.matrix(f"{attention}.{name}.weight") for name in "qkv"]))
        self.output = Output(weights.matrix(f"{attention}.o.weight"), group)
        # (buckets, H)
        self.bias = weights.take(f"{attention}.relative_attention_bias.weight") if first else None


class CrossAttention:
    """Norm, q, fused k and v over the source text, and output of a decoder block."""

    def __init__(self, weights: Weights, prefix: str, shape: Shape, group: Group) -> None:
        self.norm = RMSNorm(weights.take(f"{prefix}.layer_norm.weight"), shape.epsilon)
        attention = f"{prefix}.EncDecAttention"
        self.query = Linear(weights.matrix(f"{attention}.q.weight"))
        self.pair = Linear(stacked([weights.matrix(f"{attention}.{name}.weight") for name in "kv"]))
        self.output = Output(weights.matrix(f"{attention}.o.weight"), group)


class FeedForward:
    """Norm, input (gate and up fused, where gated), activation, output."""

    def __init__(self, weights: Weights, prefix: str, shape: Shape, group: Group) -> None:
        self._norm = RMSNorm(weights.take(f"{prefix}.layer_norm.weight"), shape.epsilon)
        names = ("wi_0", "wi_1") if shape.gated else ("wi",)
        parts = [weights.matrix(f"{prefix}.DenseReluDense.{name}.weight") for name in names]
        self._input = Linear(stacked(parts) if shape.gated else parts[0])
        self._output = Output(weights.matrix(f"{prefix}.DenseReluDense.wo.weight"), group)
        self._activation, self._gated = shape.activation, shape.gated

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) → (N, d), the residual added"""
        inner = self._input(self._norm(x))
        inner = gated(inner, self._activation) if self._gated else ACTIVATIONS[self._activation](inner)
        return self._output(x, inner)


class T5Model:
    """One rank's part of a T5."""

    encodes = True
    positions = None  # its biases reach any distance

    def __init__(self, shape: Shape, weights: Weights, group: Group) -> None:
        """Takes its weights in the order of the family's table, so that the loader can read ahead."""
        self.shape, heads = shape, shape.num_heads // group.world
        table = weights.take(SHARED)
        self.dtype, self.device = table.dtype, table.device
        self.encoder = [
            (
                SelfAttention(weights, ENCODER_SELF.format(block), shape, group, first=block == 0),
                FeedForward(weights, ENCODER_FF.format(block), shape, group),
            )
            for block in range(shape.num_layers)
        ]
        self.encoder_norm = RMSNorm(weights.take("encoder.final_layer_norm.weight"), shape.epsilon)
        self.decoder = [
            (
                SelfAttention(weights, DECODER_SELF.format(block), shape, group, first=block == 0),
                CrossAttention(weights, DECODER_CROSS.format(block), shape, group),
                FeedForward(weights, DECODER_FF.format(block), shape, group),
            )
            for block in range(shape.num_decoder_layers)
        ]
        self.decoder_norm = RMSNorm(weights.take("decoder.final_layer_norm.weight"), shape.epsilon)
        self.encoder_bias = _position_bias(self.encoder[0][0].bias, shape, bidirectional=True)
        past = _position_bias(self.decoder[0][0].bias, shape, bidirectional=False)
        sight = Sight(lambda count: past.between(count)[:, :count])
        self.heads = Heads(heads, heads, shape.d_kv, (sight,) * len(self.decoder))
        head = weights.matrix(HEAD) if weights.has(HEAD) else None
        self.vocabulary = Vocabulary(group, shape.vocab_size, table, head)
        self._scale = shape.d_model**-0.5 if shape.scaled else None
        self._looked: tuple[object, list[Look]] = None, []

    def stores(self, slots: int, source: int, text: int) -> tuple[Store, Store]:
        """Its caches: of texts, and of what the encoder has read, of at most so many tokens in each slot."""
        heads, layers = self.heads, len(self.decoder)
        return (
            Store(layers, slots, heads.pairs, text, heads.width, self.dtype, self.device),
            Store(layers, slots, heads.pairs, source, heads.width, self.dtype, self.device),
        )

    def encode(self, sources: Sequence[Sequence[int]]) -> Tensor:
        """Whole sources → (N, d) of all their tokens; each attends to itself, without padding."""
        heads, lengths = self.heads, [len(source) for source in sources]
        # (1, H, S, S)
        biases = {length: self.encoder_bias.square(length).unsqueeze(0) for length in set(lengths)}
        x = self.vocabulary.embed(torch.tensor([token for source in sources for token in source]))
        for attention, feed_forward in self.encoder:
            qkv = attention.qkv(attention.norm(x)).view(len(x), 3, heads.queries, heads.width)
            mixed = []
            for length, one in zip(lengths, torch.split(qkv, lengths), strict=True):
                query, keys, values = one.unbind(1)
                mixed.append(together(query, keys.transpose(0, 1), values.transpose(0, 1), biases[length], 1.0))
            x = feed_forward(attention.output(x, torch.cat(mixed)))
        return self.encoder_norm(x)

    def forward(self, batch: Batch, stores: Sequence[Store]) -> Tensor:
        """Reads the batch's sources, then one pass through the decoder → what the head gets, (M, d)"""
        own, cross = stores
        for sources in [[source] for source in batch.sources] if batch.apart else [batch.sources]:
            if sources:
                self._read(sources, cross)
        text, read = Pass(self.heads, own, batch), Sources(self.heads, cross, batch, self._looks(cross, batch))
        x = self.vocabulary.embed(batch.tokens)
        for layer, (attention, over_source, feed_forward) in enumerate(self.decoder):
            x = attention.output(x, text.mix(layer, attention.qkv(attention.norm(x))))
            x = over_source.output(x, read.mix(layer, over_source.query(over_source.norm(x))))
            x = feed_forward(x)
        x = self.decoder_norm(batch.pick(x))
        return x if self._scale is None else x * self._scale

    def _looks(self, cross: Store, batch: Batch) -> list[Look]:
        key = cross, batch.first, batch.read
        if batch.apart or key != self._looked[0]:
            self._looked = key, looks(self.heads, cross, batch)
        return self._looked[1]

    def _read(self, sources: Sequence[Source], cross: Store) -> None:
        """What the decoder's layers look at, of sources that are read now."""
        hidden = self.encode([source.tokens for source in sources])
        lengths = [len(source.tokens) for source in sources]
        for layer, (_, over_source, _) in enumerate(self.decoder):
            pairs = over_source.pair(hidden).view(len(hidden), 2, self.heads.pairs, self.heads.width)
            for source, one in zip(sources, torch.split(pairs, lengths), strict=True):
                cross.write(layer, source.slot, 0, one)


def _position_bias(table: Tensor | None, shape: Shape, *, bidirectional: bool) -> PositionBias:
    assert table is not None
    return PositionBias(table, bidirectional=bidirectional, furthest=shape.max_distance)


Look = tuple[int, int, Tensor, list[Tensor], list[Tensor]]
"""Rows [first, last), the bias (rows * H, 1, span) on what is no source, and each layer's keys and values."""


def looks(heads: Heads, store: Store, batch: Batch) -> list[Look]:
    """Neighbouring rows that look at their sources together; the same from step to step while nobody comes or goes."""

    def together(first: int, last: int, span: int) -> Look:
        lengths = torch.tensor(batch.read[first:last]).unsqueeze(1)
        span = min(-(-span // STEP) * STEP, store.room)
        bias = torch.zeros(last - first, span, dtype=store.content.dtype)
        bias.masked_fill_(torch.arange(span) >= lengths, -torch.inf)
        keys, values = store.views(batch.first + first, last - first, span)
        return first, last, bias.repeat_interleave(heads.pairs, 0).unsqueeze(1), keys, values

    return [together(*borders) for borders in runs(batch.read, apart=batch.apart)]


class Sources:
    """The attention of a pass's tokens over what the encoder has read for them."""

    def __init__(self, heads: Heads, store: Store, batch: Batch, rows: list[Look]) -> None:
        self._heads, self._store, self._batch, self._rows = heads, store, batch, rows
        self._padding = len(batch.tokens) - len(batch.at) - sum(chunk.count for chunk in batch.chunks)

    def mix(self, layer: int, query: Tensor) -> Tensor:
        """(N, H * D) → (N, H * D)"""
        heads = self._heads
        mixed = []
        for first, last, bias, keys, values in self._rows:
            part = query[first:last].view((last - first) * heads.pairs, 1, heads.width)
            if self._batch.apart:
                part = part.clone()  # as in Pass
            mixed.append(attend(part, keys[layer], values[layer], bias).view(last - first, -1))
        at = len(self._batch.at)
        for chunk in self._batch.chunks:
            part = query[at : at + chunk.count].view(chunk.count, heads.queries, heads.width)
            mixed.append(together(part, *self._store.read(layer, chunk.slot, chunk.source), None, 1.0))
            at += chunk.count
        if self._padding:
            mixed.append(torch.zeros_like(query[: self._padding]))
        return mixed[0] if len(mixed) == 1 else torch.cat(mixed)
