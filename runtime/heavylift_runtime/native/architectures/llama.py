"""The forward pass of Llama, Mistral, Qwen2 and Qwen3 on one rank: what decoder.py needs, built from the weights.

Not their table of weights (families/llama.py). H query heads, P key-value heads, D their width.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from heavylift_runtime.families.llama import FINAL, LAYER, Llama, LlamaShape
from heavylift_runtime.native.architectures.attention import Heads
from heavylift_runtime.native.architectures.blocks import Attention, FeedForward, Inner, Layer, Output, PreNorm
from heavylift_runtime.native.architectures.decoder import Decoder, assemble
from heavylift_runtime.native.architectures.parts import fused, linear_of
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.layers import RMSNorm
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights


class NormedHeads:
    """Fused q, k, v, of which each query and key head is normed for itself (Qwen3)."""

    def __init__(self, qkv: Linear, heads: Heads, query: Tensor, key: Tensor, epsilon: float) -> None:
        """`query`, `key`: (D,)"""
        self._qkv, self._width, self._epsilon = qkv, heads.width, epsilon
        self._weight = torch.cat([query.expand(heads.queries, -1), key.expand(heads.pairs, -1)])  # (H + P, D)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) → (N, (H + 2 P) * D)"""
        qkv = self._qkv(x)
        normed = qkv.view(len(x), -1, self._width).narrow(1, 0, len(self._weight))
        if kernels.usable(normed):
            kernels.norm_heads_(normed, self._weight, self._epsilon)
            return qkv
        normed.copy_(F.rms_norm(normed, (self._width,), None, self._epsilon).mul_(self._weight))
        return qkv


def build(shape: LlamaShape, weights: Weights, group: Group) -> Decoder:
    """A rank's part of a stage."""
    heads = Heads.of(shape, weights, group)
    block = partial(_block, shape, weights, group, heads)
    return assemble(Llama, shape, weights, group, heads, block, partial(final_norm, shape, weights))


def final_norm(shape: LlamaShape, weights: Weights) -> RMSNorm:
    """That after the layers (also Mixtral's)."""
    return RMSNorm(weights.take(f"{FINAL}.weight"), shape.epsilon)


def _block(shape: LlamaShape, weights: Weights, group: Group, heads: Heads, number: int) -> PreNorm:
    prefix = LAYER.format(number)
    norm, attention, second = attention_of(shape, weights, group, heads, prefix)
    gate, up = (linear_of(weights, f"{prefix}.mlp.{name}_proj", shape.inner_bias) for name in ("gate", "up"))
    inner = Inner(fused([gate, up]), shape.activation, gated=True)
    weight, bias = linear_of(weights, f"{prefix}.mlp.down_proj", shape.inner_bias)
    feed_forward: Layer = FeedForward(inner, Output(weight, group, bias))
    return PreNorm(norm, attention, second, feed_forward)


def attention_of(
    shape: LlamaShape, weights: Weights, group: Group, heads: Heads, prefix: str
) -> tuple[RMSNorm, Attention, RMSNorm]:
    """The norm before the attention, the attention, and the norm after it."""
    norm = RMSNorm(weights.take(f"{prefix}.input_layernorm.weight"), shape.epsilon)
    attention = f"{prefix}.self_attn"
    qkv = fused([linear_of(weights, f"{attention}.{name}_proj", shape.query_bias) for name in "qkv"])
    projection: Linear | NormedHeads = qkv
    if shape.head_norm:
        query, key = (weights.take(f"{attention}.{name}_norm.weight") for name in "qk")
        projection = NormedHeads(qkv, heads, query, key, shape.epsilon)
    weight, bias = linear_of(weights, f"{attention}.o_proj", shape.output_bias)
    second = RMSNorm(weights.take(f"{prefix}.post_attention_layernorm.weight"), shape.epsilon)
    return norm, Attention(projection, Output(weight, group, bias)), second
