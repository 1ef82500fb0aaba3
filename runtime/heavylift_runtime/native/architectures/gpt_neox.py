"""The forward pass of GPT-NeoX (Black et al. 2022) on one rank: what decoder.py needs, built from the weights.

Not its table of weights (families/gpt_neox.py).
"""

from __future__ import annotations

from functools import partial

from heavylift_runtime.families.gpt_neox import FINAL, LAYER, GPTNeoX, NeoXShape
from heavylift_runtime.native.architectures.attention import Heads
from heavylift_runtime.native.architectures.blocks import (
    Attention,
    Block,
    FeedForward,
    Inner,
    Output,
    Parallel,
    PreNorm,
)
from heavylift_runtime.native.architectures.decoder import Decoder, assemble
from heavylift_runtime.native.architectures.parts import by_kind, linear_of, norm_of
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.quantize.joined import beside


def build(shape: NeoXShape, weights: Weights, group: Group) -> Decoder:
    """A rank's part of a stage."""
    heads, block = Heads.of(shape, weights, group), partial(_block, shape, weights, group)
    return assemble(GPTNeoX, shape, weights, group, heads, block, partial(norm_of, weights, FINAL, shape.epsilon))


def _block(shape: NeoXShape, weights: Weights, group: Group, number: int) -> Block:
    prefix = LAYER.format(number)
    norm = norm_of(weights, f"{prefix}.input_layernorm", shape.epsilon)
    fused = linear_of(weights, f"{prefix}.attention.query_key_value", shape.attention_bias)
    qkv = by_kind(fused, shape.head_width)
    mixed, bias = linear_of(weights, f"{prefix}.attention.dense", shape.attention_bias)
    second = norm_of(weights, f"{prefix}.post_attention_layernorm", shape.epsilon)
    inner = Inner(Linear(*linear_of(weights, f"{prefix}.mlp.dense_h_to_4h")), shape.activation)
    down, other = linear_of(weights, f"{prefix}.mlp.dense_4h_to_h")
    if shape.parallel:
        both = other if bias is None or other is None else bias + other
        return Parallel(norm, qkv, second, inner, Output(beside([mixed, down]), group, both))
    attention = Attention(qkv, Output(mixed, group, bias))
    return PreNorm(norm, attention, second, FeedForward(inner, Output(down, group, other)))
