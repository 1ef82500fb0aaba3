"""The forward pass of GPT-2 (Radford et al. 2019) on one rank: what decoder.py needs, built from the weights.

Not its table of weights (families/gpt2.py).
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F

from heavylift_runtime.families.decoder import Shape
from heavylift_runtime.families.gpt2 import FINAL, GPT2, LAYER, POSITIONS
from heavylift_runtime.native.architectures.attention import Heads
from heavylift_runtime.native.architectures.blocks import Attention, FeedForward, Inner, Output, PreNorm
from heavylift_runtime.native.architectures.decoder import Decoder, Enter, assemble
from heavylift_runtime.native.architectures.parts import linear_of, norm_of
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights


def build(shape: Shape, weights: Weights, group: Group) -> Decoder:
    """A rank's part of a stage."""

    def front() -> Enter:
        places = weights.take(POSITIONS)
        return lambda embedded, positions: embedded + F.embedding(positions, places)

    heads, block = Heads.of(shape, weights, group), partial(_block, shape, weights, group)
    return assemble(
        GPT2, shape, weights, group, heads, block, partial(norm_of, weights, FINAL, shape.epsilon), front=front
    )


def _block(shape: Shape, weights: Weights, group: Group, number: int) -> PreNorm:
    prefix = LAYER.format(number)
    norm = norm_of(weights, f"{prefix}.ln_1", shape.epsilon)
    weight, bias = linear_of(weights, f"{prefix}.attn.c_attn")
    assert bias is not None
    qkv = Linear(weight, bias.flatten())
    attention = Attention(qkv, _output(weights, f"{prefix}.attn.c_proj", group))
    second = norm_of(weights, f"{prefix}.ln_2", shape.epsilon)
    inner = Inner(Linear(*linear_of(weights, f"{prefix}.mlp.c_fc")), shape.activation)
    output = _output(weights, f"{prefix}.mlp.c_proj", group)
    return PreNorm(norm, attention, second, FeedForward(inner, output))


def _output(weights: Weights, name: str, group: Group) -> Output:
    weight, bias = linear_of(weights, name)
    return Output(weight, group, bias)
