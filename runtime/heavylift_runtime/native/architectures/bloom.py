"""The forward pass of BLOOM (BigScience 2022) on one rank: what decoder.py needs, built from the weights.

Not its table of weights (families/bloom.py).
"""

from __future__ import annotations

from torch import Tensor

from heavylift_runtime.families.bloom import EMBEDDING_NORM, FINAL, LAYER, Bloom
from heavylift_runtime.families.decoder import Shape
from heavylift_runtime.native.architectures.attention import Heads
from heavylift_runtime.native.architectures.blocks import Attention, FeedForward, Inner, Output, PreNorm
from heavylift_runtime.native.architectures.decoder import Decoder
from heavylift_runtime.native.architectures.parts import by_kind, linear_of, norm_of
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.vocabulary import Vocabulary


def build(shape: Shape, weights: Weights, group: Group) -> Decoder:
    """Takes the weights in the order of the family's table, so that the loader can read ahead."""
    table = weights.take(Bloom.embedding)
    first = norm_of(weights, EMBEDDING_NORM, shape.epsilon)
    blocks = [_block(shape, weights, group, LAYER.format(layer)) for layer in range(shape.layers)]
    norm = norm_of(weights, FINAL, shape.epsilon)
    vocabulary = Vocabulary(group, shape.vocabulary, table, None if shape.tied else weights.matrix(Bloom.head))

    def enter(embedded: Tensor, positions: Tensor) -> Tensor:
        return first(embedded)

    heads = Heads.of(shape, group, table.dtype, fades=True)
    return Decoder(vocabulary, heads, blocks, norm, table.dtype, enter=enter)


def _block(shape: Shape, weights: Weights, group: Group, prefix: str) -> PreNorm:
    norm = norm_of(weights, f"{prefix}.input_layernorm", shape.epsilon)
    qkv = by_kind(linear_of(weights, f"{prefix}.self_attention.query_key_value"), shape.head_width)
    weight, bias = linear_of(weights, f"{prefix}.self_attention.dense")
    attention = Attention(qkv, Output(weight, group, bias))
    second = norm_of(weights, f"{prefix}.post_attention_layernorm", shape.epsilon)
    inner = Inner(Linear(*linear_of(weights, f"{prefix}.mlp.dense_h_to_4h")), shape.activation)
    weight, bias = linear_of(weights, f"{prefix}.mlp.dense_4h_to_h")
    return PreNorm(norm, attention, second, FeedForward(inner, Output(weight, group, bias)))
