"""The forward pass of BLOOM (BigScience 2022) on one rank: what decoder.py needs, built from the weights.

Not its table of weights (families/bloom.py).
"""

from __future__ import annotations

from functools import partial

from heavylift_runtime.families.bloom import EMBEDDING_NORM, FINAL, LAYER, Bloom
from heavylift_runtime.families.decoder import Shape
from heavylift_runtime.native.architectures.attention import Heads
from heavylift_runtime.native.architectures.blocks import Attention, FeedForward, Inner, Output, PreNorm
from heavylift_runtime.native.architectures.decoder import Decoder, Enter, assemble
from heavylift_runtime.native.architectures.parts import by_kind, linear_of, norm_of
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights


def build(shape: Shape, weights: Weights, group: Group) -> Decoder:
    """A rank's part of a stage."""

    def front() -> Enter:
        norm = norm_of(weights, EMBEDDING_NORM, shape.epsilon)
        return lambda embedded, positions: norm(embedded)

    heads, block = Heads.of(shape, weights, group, fades=True), partial(_block, shape, weights, group)
    return assemble(
        Bloom, shape, weights, group, heads, block, partial(norm_of, weights, FINAL, shape.epsilon), front=front
    )


def _block(shape: Shape, weights: Weights, group: Group, number: int) -> PreNorm:
    prefix = LAYER.format(number)
    norm = norm_of(weights, f"{prefix}.input_layernorm", shape.epsilon)
    qkv = by_kind(linear_of(weights, f"{prefix}.self_attention.query_key_value"), shape.head_width)
    weight, bias = linear_of(weights, f"{prefix}.self_attention.dense")
    attention = Attention(qkv, Output(weight, group, bias))
    second = norm_of(weights, f"{prefix}.post_attention_layernorm", shape.epsilon)
    inner = Inner(Linear(*linear_of(weights, f"{prefix}.mlp.dense_h_to_4h")), shape.activation)
    weight, bias = linear_of(weights, f"{prefix}.mlp.dense_4h_to_h")
    return PreNorm(norm, attention, second, FeedForward(inner, Output(weight, group, bias)))
