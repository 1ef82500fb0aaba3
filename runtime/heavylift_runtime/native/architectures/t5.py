"""T5's forward pass (Raffel et al. 2020) through one rank's part of a stage: whole sources, and the decoder's tokens.

Not its table of weights (families/t5.py), not the choice of who is in a pass (scheduler.py). S source positions, H
heads of this rank, D their width, d the model's width; activations are flat, (N, d), without padding.

T5 was trained in bf16, and in fp16 its activations overflow. As in transformers, `wo` and its product then stay in
fp32, and so does the residual. What attention adds to it is cut at fp16's largest number, of each rank's part, where
transformers computes NaN.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from heavylift_runtime.families.t5 import (
    DECODER_BIAS,
    DECODER_CROSS,
    DECODER_FF,
    DECODER_SELF,
    ENCODER_BIAS,
    ENCODER_FF,
    ENCODER_SELF,
    HEAD,
    SHARED,
    Shape,
)
from heavylift_runtime.native.architectures.attention import STEP, Heads, Pass, runs, together
from heavylift_runtime.native.architectures.blocks import Output
from heavylift_runtime.native.architectures.repeated import Repeated
from heavylift_runtime.native.batch import Batch, Source
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.kernels.lookups import Seen
from heavylift_runtime.native.kernels.recording import between
from heavylift_runtime.native.layers import PositionBias, RMSNorm, activated, attend, gated
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.quantize.forms import Matrix
from heavylift_runtime.native.quantize.joined import stacked
from heavylift_runtime.native.sight import Sight
from heavylift_runtime.native.vocabulary import Vocabulary

LARGEST = torch.finfo(torch.float16).max


class Norm:
    """RMSNorm of the residual, in the type that is computed in."""

    def __init__(self, weights: Weights, name: str, shape: Shape) -> None:
        weight, self._dtype = weights.take(name), weights.dtype
        self._norm = RMSNorm(weight.float() if self._dtype == torch.float16 else weight, shape.epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) → (N, d)"""
        return self._norm(x).to(self._dtype)


class WideOutput:
    """Output's sum in fp32, of a product in fp16 or, where the weight was kept so, in fp32."""

    def __init__(self, weight: Matrix, group: Group) -> None:
        self._linear, self._group = Linear(weight), group
        self._dtype = weight.dtype if isinstance(weight, Tensor) else torch.float16

    def __call__(self, residual: Tensor, x: Tensor) -> Tensor:
        part = self._linear(x.to(self._dtype))
        if self._dtype == torch.float16:
            part = part.clamp_(-LARGEST, LARGEST)
        part = part.float()
        return self._group.all_reduce(part.add_(residual) if self._group.rank == 0 else part)


def output_of(weights: Weights, name: str, group: Group) -> Output | WideOutput:
    """A product that ends a layer, on top of the residual."""
    matrix = weights.matrix(name)
    return WideOutput(matrix, group) if weights.dtype == torch.float16 else Output(matrix, group)


class SelfAttention:
    """Norm, fused q, k, v, and output of a block."""

    def __init__(self, weights: Weights, prefix: str, shape: Shape, group: Group) -> None:
        self.norm = Norm(weights, f"{prefix}.layer_norm.weight", shape)
        attention = f"{prefix}.SelfAttention"
        self.qkv = Linear(stacked([weights.matrix(f"{attention}.{name}.weight") for name in "qkv"]))
        self.output = output_of(weights, f"{attention}.o.weight", group)


class CrossAttention:
    """Norm, q, fused k and v over the source text, and output of a decoder block."""

    def __init__(self, weights: Weights, prefix: str, shape: Shape, group: Group) -> None:
        self.norm = Norm(weights, f"{prefix}.layer_norm.weight", shape)
        attention = f"{prefix}.EncDecAttention"
        self.query = Linear(weights.matrix(f"{attention}.q.weight"))
        self.pair = Linear(stacked([weights.matrix(f"{attention}.{name}.weight") for name in "kv"]))
        self.output = output_of(weights, f"{attention}.o.weight", group)


class FeedForward:
    """Norm, input (gate and up fused, where gated), activation, output."""

    def __init__(self, weights: Weights, prefix: str, shape: Shape, group: Group) -> None:
        self._norm = Norm(weights, f"{prefix}.layer_norm.weight", shape)
        names = ("wi_0", "wi_1") if shape.gated else ("wi",)
        parts = [weights.matrix(f"{prefix}.DenseReluDense.{name}.weight") for name in names]
        self._input = Linear(stacked(parts) if shape.gated else parts[0])
        self._output = output_of(weights, f"{prefix}.DenseReluDense.wo.weight", group)
        self._activation, self._gated = shape.activation, shape.gated

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) → (N, d), the residual added"""
        inner = self._input(self._norm(x))
        return self._output(x, (gated if self._gated else activated)(inner, self._activation))


class T5Model:
    """One rank's part of a stage of a T5."""

    encodes = True
    positions = None  # its biases reach any distance

    def __init__(self, shape: Shape, weights: Weights, group: Group) -> None:
        """Takes its weights in the order of the family's table, so that the loader can read ahead."""
        stage, heads = weights.stage, shape.num_heads // group.world
        self.width, self.dtype, self.device, self._last = shape.d_model, weights.dtype, weights.device, stage.last
        self.stream = torch.float32 if self.dtype == torch.float16 else self.dtype
        untied = stage.last and weights.has(HEAD)
        table = weights.take(SHARED) if stage.first or (stage.last and not untied) else None
        self.encoder_bias = _position_bias(weights, ENCODER_BIAS, shape, bidirectional=True)
        self.encoder = [
            (
                SelfAttention(weights, ENCODER_SELF.format(block), shape, group),
                FeedForward(weights, ENCODER_FF.format(block), shape, group),
            )
            for block in stage.layers(shape.num_layers)
        ]
        self.encoder_norm = Norm(weights, "encoder.final_layer_norm.weight", shape) if stage.last else None
        past = _position_bias(weights, DECODER_BIAS, shape, bidirectional=False)
        self.decoder = [
            (
                SelfAttention(weights, DECODER_SELF.format(block), shape, group),
                CrossAttention(weights, DECODER_CROSS.format(block), shape, group),
                FeedForward(weights, DECODER_FF.format(block), shape, group),
            )
            for block in stage.layers(shape.num_decoder_layers)
        ]
        self.decoder_norm = Norm(weights, "decoder.final_layer_norm.weight", shape) if stage.last else None
        sight = Sight(lambda count: past.between(count)[:, :count])
        self.heads = Heads(heads, heads, shape.d_kv, (sight,) * len(self.decoder))
        head = weights.matrix(HEAD) if untied else None
        self.vocabulary = Vocabulary(group, shape.vocab_size, table, head, held=weights.total if stage.last else 0)
        self._scale = shape.d_model**-0.5 if shape.scaled else None
        self._room = stage.most(shape.num_decoder_layers)
        self._looked: tuple[object, list[Look]] = None, []
        self._repeated = Repeated(self._through)

    def stores(self, slots: int, source: int, text: int) -> tuple[Store, Store]:
        """Its caches: of texts, and of what the encoder has read, of at most so many tokens in each slot."""
        heads, layers = self.heads, self._room
        return (
            Store(layers, slots, heads.pairs, text, heads.width, self.dtype, self.device),
            Store(layers, slots, heads.pairs, source, heads.width, self.dtype, self.device),
        )

    @property
    def depth(self) -> int:
        return len(self.encoder)

    def encode(self, sources: Sequence[Source], x: Tensor | None = None, part: int = 0, parts: int = 1) -> Tensor:
        """Whole sources through the stage, or a portion of its layers → (N, d) of all their tokens.

        Each source attends to itself, without padding.
        """
        heads, lengths = self.heads, [len(source.tokens) for source in sources]
        # (1, H, S, S)
        biases = {length: self.encoder_bias.square(length).unsqueeze(0) for length in set(lengths)}
        if x is None:
            tokens = torch.tensor([token for source in sources for token in source.tokens])
            x = self.vocabulary.embed(tokens).to(self.stream)
        first, last = (self.depth * place // parts for place in (part, part + 1))
        for attention, feed_forward in self.encoder[first:last]:
            qkv = attention.qkv(attention.norm(x)).view(len(x), 3, heads.queries, heads.width)
            mixed = []
            for length, one in zip(lengths, torch.split(qkv, lengths), strict=True):
                query, keys, values = one.unbind(1)
                mixed.append(together(query, keys.transpose(0, 1), values.transpose(0, 1), biases[length], 1.0))
            x = feed_forward(attention.output(x, torch.cat(mixed).flatten(1)))
        return x if self.encoder_norm is None or part < parts - 1 else self.encoder_norm(x)

    def forward(self, batch: Batch, stores: Sequence[Store], x: Tensor | None = None) -> Tensor:
        """One pass through the stage's part of the decoder, of what the stage before gave, or of tokens.

        (N, d) for the next stage, or on the last what the head gets for the tokens that are wanted, (M, d).
        """
        own, cross = stores
        text, read = Pass(self.heads, own, batch), Sources(self.heads, cross, batch, self._looks(cross, batch))
        x = self.vocabulary.embed(batch.tokens).to(self.stream) if x is None else x
        x = self._repeated(x, text, read)
        return x if self.decoder_norm is None or self._scale is None else x * self._scale

    def _through(self, x: Tensor, text: Pass, read: Sources) -> Tensor:
        for layer, (attention, over_source, feed_forward) in enumerate(self.decoder):
            x = attention.output(x, text.mix(layer, attention.qkv(attention.norm(x))))
            x = over_source.output(x, read.mix(layer, over_source.query(over_source.norm(x))))
            x = feed_forward(x)
        return x if self.decoder_norm is None else self.decoder_norm(text.pick(x))

    def _looks(self, cross: Store, batch: Batch) -> list[Look]:
        if batch.looked is not None:
            return looks(self.heads, cross, batch)
        key = cross, batch.first, batch.read
        if batch.apart or key != self._looked[0]:
            self._looked = key, looks(self.heads, cross, batch)
        return self._looked[1]

    def remember(self, sources: Sequence[Source], hidden: Tensor, stores: Sequence[Store]) -> None:
        """What the decoder's layers look at, of what the whole encoder gave, (N, d)."""
        cross, lengths = stores[1], [len(source.tokens) for source in sources]
        for layer, (_, over_source, _) in enumerate(self.decoder):
            pairs = over_source.pair(hidden).view(len(hidden), 2, self.heads.pairs, self.heads.width)
            for source, one in zip(sources, torch.split(pairs, lengths), strict=True):
                cross.write(layer, source.slot, 0, one)


def _position_bias(weights: Weights, name: str, shape: Shape, *, bidirectional: bool) -> PositionBias:
    return PositionBias(weights.take(name), bidirectional=bidirectional, furthest=shape.max_distance)


Look = tuple[int, int, Tensor, list[Tensor], list[Tensor]]
"""Rows [first, last), the bias (rows * H, 1, span) on what is no source, and each layer's keys and values."""


def looks(heads: Heads, store: Store, batch: Batch) -> list[Look]:
    """Neighbouring rows that look at their sources together; the same from step to step while nobody comes or goes."""

    def together(first: int, last: int, span: int) -> Look:
        lengths = (
            torch.tensor(batch.read[first:last]) if batch.looked is None else batch.looked[first:last]
        ).unsqueeze(1)
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
        self._seen = [Seen(bias) for _, _, bias, _, _ in rows]
        self._padding = len(batch.tokens) - len(batch.at) - sum(chunk.count for chunk in batch.chunks)

    def mix(self, layer: int, query: Tensor) -> Tensor:
        """(N, H * D) → (N, H * D)"""
        heads = self._heads
        query = query.view(len(query), heads.queries, heads.width)
        mixed = kernels.empty(query, *query.shape)
        at = len(self._batch.at)
        for turn in range(0, at, max(1, at // self._batch.turns)):
            for (first, last, _, keys, values), seen in zip(self._rows, self._seen, strict=True):
                own = slice(turn + first, turn + last)
                attend(query[own], keys[layer], values[layer], seen, 1.0, mixed[own])
        for chunk in self._batch.chunks:
            own = slice(at, at + chunk.count)
            mixed[own] = together(query[own], *self._store.read(layer, chunk.slot, chunk.source), None, 1.0)
            at += chunk.count
        if self._padding:
            between(mixed[at:].zero_)
        return mixed.flatten(1)

    @property
    def form(self) -> Hashable:
        """As a Pass's."""
        if self._batch.chunks:
            return None
        rows = tuple((first, last) for first, last, *_ in self._rows)
        return self._store, self._batch.first, self._batch.turns, rows

    def follow(self, other: Sources) -> None:
        """As a Pass does."""
        for seen, new in zip(self._seen, other._seen, strict=True):
            seen.become(new)
