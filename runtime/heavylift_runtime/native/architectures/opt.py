"""The forward pass of OPT (Zhang et al. 2022) on one rank: what decoder.py needs, built from the weights.

Not its table of weights (families/opt.py).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from heavylift_runtime.families.opt import FINAL, LAYER, OFFSET, OPT, POSITIONS, PROJECT_IN, PROJECT_OUT, OPTShape
from heavylift_runtime.native.architectures.attention import Heads
from heavylift_runtime.native.architectures.blocks import (
    Attention,
    Block,
    FeedForward,
    Inner,
    Output,
    PostNorm,
    PreNorm,
)
from heavylift_runtime.native.architectures.decoder import Decoder
from heavylift_runtime.native.architectures.parts import fused, linear_of, norm_of
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.vocabulary import Vocabulary


def build(shape: OPTShape, weights: Weights, group: Group) -> Decoder:
    """Takes the weights in the order of the family's table, so that the loader can read ahead."""
    table, places = weights.take(OPT.embedding), weights.take(POSITIONS)
    narrow = shape.embedded != shape.width
    into = Linear(weights.take(PROJECT_IN)) if narrow else None
    blocks = [_block(shape, weights, group, LAYER.format(layer)) for layer in range(shape.layers)]
    norm = norm_of(weights, FINAL, shape.epsilon) if shape.final_norm else None
    out = Linear(weights.take(PROJECT_OUT)) if narrow else None
    vocabulary = Vocabulary(group, shape.vocabulary, table, None if shape.tied else weights.matrix(OPT.head))

    def enter(embedded: Tensor, positions: Tensor) -> Tensor:
        return (embedded if into is None else into(embedded)) + F.embedding(positions + OFFSET, places)

    def leave(x: Tensor) -> Tensor:
        x = x if norm is None else norm(x)
        return x if out is None else out(x)

    heads = Heads.of(shape, group, table.dtype)
    return Decoder(vocabulary, heads, blocks, leave, table.dtype, enter=enter, positions=shape.positions)


def _block(shape: OPTShape, weights: Weights, group: Group, prefix: str) -> Block:
    norm = norm_of(weights, f"{prefix}.self_attn_layer_norm", shape.epsilon)
    qkv = fused([linear_of(weights, f"{prefix}.self_attn.{name}_proj") for name in "qkv"])
    weight, bias = linear_of(weights, f"{prefix}.self_attn.out_proj")
    attention = Attention(qkv, Output(weight, group, bias))
    second = norm_of(weights, f"{prefix}.final_layer_norm", shape.epsilon)
    inner = Inner(Linear(*linear_of(weights, f"{prefix}.fc1")), shape.activation)
    weight, bias = linear_of(weights, f"{prefix}.fc2")
    order = PreNorm if shape.before else PostNorm
    return order(norm, attention, second, FeedForward(inner, Output(weight, group, bias)))
