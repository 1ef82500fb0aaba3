"""The forward pass of OPT (Zhang et al. 2022) on one rank: what decoder.py needs, built from the weights.

Not its table of weights (families/opt.py).
"""

from __future__ import annotations

from functools import partial

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
from heavylift_runtime.native.architectures.decoder import Decoder, Enter, Leave, assemble
from heavylift_runtime.native.architectures.parts import fused, linear_of, norm_of
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights


def build(shape: OPTShape, weights: Weights, group: Group) -> Decoder:
    """A rank's part of a stage."""
    narrow = shape.embedded != shape.width

    def front() -> Enter:
        places = weights.take(POSITIONS)
        into = Linear(weights.take(PROJECT_IN)) if narrow else None

        def enter(embedded: Tensor, positions: Tensor) -> Tensor:
            return (embedded if into is None else into(embedded)) + F.embedding(positions + OFFSET, places)

        return enter

    def back() -> Leave:
        norm = norm_of(weights, FINAL, shape.epsilon) if shape.final_norm else None
        out = Linear(weights.take(PROJECT_OUT)) if narrow else None

        def leave(x: Tensor) -> Tensor:
            x = x if norm is None else norm(x)
            return x if out is None else out(x)

        return leave

    heads, block = Heads.of(shape, weights, group), partial(_block, shape, weights, group)
    return assemble(OPT, shape, weights, group, heads, block, back, front=front)


def _block(shape: OPTShape, weights: Weights, group: Group, number: int) -> Block:
    prefix = LAYER.format(number)
    norm = norm_of(weights, f"{prefix}.self_attn_layer_norm", shape.epsilon)
    qkv = fused([linear_of(weights, f"{prefix}.self_attn.{name}_proj") for name in "qkv"])
    weight, bias = linear_of(weights, f"{prefix}.self_attn.out_proj")
    attention = Attention(qkv, Output(weight, group, bias))
    second = norm_of(weights, f"{prefix}.final_layer_norm", shape.epsilon)
    inner = Inner(Linear(*linear_of(weights, f"{prefix}.fc1")), shape.activation)
    weight, bias = linear_of(weights, f"{prefix}.fc2")
    order = PreNorm if shape.before else PostNorm
    return order(norm, attention, second, FeedForward(inner, Output(weight, group, bias)))
