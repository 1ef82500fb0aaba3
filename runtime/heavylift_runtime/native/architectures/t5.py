"""T5's forward pass (Raffel et al. 2020) on one rank of a tensor-parallel group: encoder, and decoder token by token.

Not its table of weights (families/t5.py), not the choice of when to stop (generate.py). B rows, S source positions,
H heads of this rank, D their width, d the model's width; activations are flat, (B * S, d).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
from heavylift_runtime.native.architectures.blocks import Output
from heavylift_runtime.native.cache import CrossCache, SelfCache
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.layers import ACTIVATIONS, PositionBias, RMSNorm, attend
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.quantize.forms import stacked
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
        self._width = parts[0].shape[0]
        self._input = Linear(stacked(parts) if shape.gated else parts[0])
        self._output = Output(weights.matrix(f"{prefix}.DenseReluDense.wo.weight"), group)
        self._activation, self._gated = ACTIVATIONS[shape.activation], shape.gated

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) → (N, d), the residual added"""
        inner = self._input(self._norm(x))
        if self._gated:
            inner = self._activation(inner.narrow(1, 0, self._width)).mul_(inner.narrow(1, self._width, self._width))
        else:
            inner = self._activation(inner)
        return self._output(x, inner)


class T5Model:
    """One rank's part of a T5."""

    positions = None  # its biases reach any distance

    def __init__(self, shape: Shape, weights: Weights, group: Group) -> None:
        """Takes its weights in the order of the family's table, so that the loader can read ahead."""
        self.shape, self.group = shape, group
        self.heads = shape.num_heads // group.world
        table = weights.take(SHARED)
        self.dtype = table.dtype
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
        self.decoder_bias = _position_bias(self.decoder[0][0].bias, shape, bidirectional=False)
        head = weights.matrix(HEAD) if weights.has(HEAD) else None
        self.vocabulary = Vocabulary(group, shape.vocab_size, table, head)

    def encode(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Source]:
        """ids (B, S) int64 padded at the right, lengths (B,) → hidden (N, d) of the real tokens, and where they are"""
        source = Source.of(ids, lengths, self.dtype)
        bias = self.encoder_bias.square(source.positions) + source.mask[:, None, None]  # (B, H, S, S)
        x = self.vocabulary.embed(ids.flatten() if source.real is None else ids.flatten()[source.real])
        for attention, feed_forward in self.encoder:
            qkv = source.padded(attention.qkv(attention.norm(x)))
            query, key, value = qkv.view(*ids.shape, 3, self.heads, self.shape.d_kv).permute(
                2, 0, 3, 1, 4
            )  # (B, H, S, D)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
            mixed = mixed.transpose(1, 2).reshape(ids.numel(), -1)
            x = feed_forward(attention.output(x, mixed if source.real is None else mixed[source.real]))
        return self.encoder_norm(x), source

    def begin(self, ids: Tensor, lengths: Tensor, start: int) -> Decoding:
        """Encodes the source texts; the answers begin with token `start`."""
        hidden, source = self.encode(ids, lengths)
        pairs = [
            source.padded(cross.pair(hidden))
            .view(*ids.shape, 2, self.heads, self.shape.d_kv)
            .permute(2, 0, 3, 1, 4)  # (2, B, H, S, D)
            .contiguous()
            for _, cross, _ in self.decoder
        ]
        return Decoding(self, CrossCache(pairs, source.mask), torch.full((len(ids),), start))


def _position_bias(table: Tensor | None, shape: Shape, *, bidirectional: bool) -> PositionBias:
    assert table is not None
    return PositionBias(table, bidirectional=bidirectional, furthest=shape.max_distance)


@dataclass(frozen=True)
class Source:
    """Where the real tokens of a padded batch are: padding takes part in attention only, where it is masked."""

    rows: int
    positions: int
    mask: Tensor
    """(B, S) of 0 and, for padding, -inf"""
    real: Tensor | None
    """(N,): the real tokens among the B * S; None: all"""

    @classmethod
    def of(cls, ids: Tensor, lengths: Tensor, dtype: torch.dtype) -> Source:
        rows, positions = ids.shape
        padding = torch.arange(positions) >= lengths.unsqueeze(1)
        mask = torch.zeros(rows, positions, dtype=dtype).masked_fill_(padding, -torch.inf)
        # on the meta device, where shapes are proved, nothing is known of the padding
        real = None if ids.is_meta or not padding.any() else (~padding).flatten().nonzero().squeeze(1)
        return cls(rows, positions, mask, real)

    def padded(self, x: Tensor) -> Tensor:
        """(N, width) → (B * S, width), zeros for padding"""
        if self.real is None:
            return x
        return x.new_zeros(self.rows * self.positions, x.shape[1]).index_copy_(0, self.real, x)


class Decoding:
    """A batch on its way through the decoder, all rows at the same position."""

    def __init__(self, model: T5Model, cross: CrossCache, start: Tensor) -> None:
        """`start`: (B,) int64, each row's first token."""
        self._model, self._cross = model, cross
        self._scale = model.shape.d_model**-0.5 if model.shape.scaled else None
        self._embedded = model.vocabulary.embed(start)
        self._own = SelfCache(
            len(model.decoder),
            len(start),
            model.heads,
            model.shape.d_kv,
            model.dtype,
            lambda count: model.decoder_bias.between(count)[:, :count],
        )

    def step(self) -> Tensor:
        """The next token of each row, greedily: (B,) int64"""
        tokens, self._embedded = self._model.vocabulary.choose(self.forward(self._embedded))
        return tokens

    def forward(self, x: Tensor) -> Tensor:
        """The decoder over one embedded token of each row, (B, d) → what the head gets, (B, d)"""
        heads, width = self._model.heads, self._model.shape.d_kv
        rows, inner = len(x), heads * width
        flat = (rows * heads, 1, width)
        own, cross = self._own, self._cross
        slots, bias = own.next()
        for layer, (attention, over_source, feed_forward) in enumerate(self._model.decoder):
            qkv = attention.qkv(attention.norm(x))
            slots[layer].copy_(qkv.narrow(1, inner, 2 * inner).view(rows, 2, heads, width).transpose(0, 1))
            query = qkv.narrow(1, 0, inner).reshape(flat)
            x = attention.output(x, attend(query, own.keys[layer], own.values[layer], bias).view(rows, inner))
            query = over_source.query(over_source.norm(x)).view(flat)
            x = over_source.output(
                x, attend(query, cross.keys[layer], cross.values[layer], cross.bias).view(rows, inner)
            )
            x = feed_forward(x)
        x = self._model.decoder_norm(x)
        return x if self._scale is None else x * self._scale

    def keep(self, rows: list[int]) -> None:
        """Only these rows go on."""
        index = torch.tensor(rows)
        self._own.keep(index)
        self._cross.keep(index)
        self._embedded = self._embedded.index_select(0, index)
