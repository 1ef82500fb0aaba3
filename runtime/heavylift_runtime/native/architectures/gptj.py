"""The forward pass of GPT-J (Wang and Komatsuzaki 2021) on one rank: what decoder.py needs, built from the weights.

Not its table of weights (families/gptj.py).
"""

from __future__ import annotations

from functools import partial

from heavylift_runtime.families.decoder import Shape
from heavylift_runtime.families.gpt2 import FINAL, LAYER
from heavylift_runtime.families.gptj import GPTJ, HEAD_BIAS
from heavylift_runtime.native.architectures.attention import Heads
from heavylift_runtime.native.architectures.blocks import Inner, Output, Parallel
from heavylift_runtime.native.architectures.decoder import Decoder, assemble
from heavylift_runtime.native.architectures.parts import fused, linear_of, norm_of
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.quantize.joined import beside


def build(shape: Shape, weights: Weights, group: Group) -> Decoder:
    """A rank's part of a stage."""
    heads, block = Heads.of(shape, weights, group), partial(_block, shape, weights, group)
    return assemble(
        GPTJ, shape, weights, group, heads, block, partial(norm_of, weights, FINAL, shape.epsilon), bias=HEAD_BIAS
    )


def _block(shape: Shape, weights: Weights, group: Group, number: int) -> Parallel:
    prefix = LAYER.format(number)
    norm = norm_of(weights, f"{prefix}.ln_1", shape.epsilon)
    qkv = fused([linear_of(weights, f"{prefix}.attn.{name}_proj", bias=False) for name in "qkv"])
    inner = Inner(Linear(*linear_of(weights, f"{prefix}.mlp.fc_in")), shape.activation)
    mixed = weights.matrix(f"{prefix}.attn.out_proj.weight")
    down, bias = linear_of(weights, f"{prefix}.mlp.fc_out")
    return Parallel(norm, qkv, None, inner, Output(beside([mixed, down]), group, bias))
