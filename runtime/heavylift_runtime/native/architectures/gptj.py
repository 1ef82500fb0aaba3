"""The forward pass of GPT-J (Wang and Komatsuzaki 2021) on one rank: what decoder.py needs, built from the weights.

Not its table of weights (families/gptj.py).
"""

from __future__ import annotations

from heavylift_runtime.families.decoder import Shape
from heavylift_runtime.families.gpt2 import FINAL, LAYER
from heavylift_runtime.families.gptj import GPTJ, HEAD_BIAS
from heavylift_runtime.native.architectures.attention import Heads
from heavylift_runtime.native.architectures.blocks import Inner, Output, Parallel
from heavylift_runtime.native.architectures.decoder import Decoder
from heavylift_runtime.native.architectures.parts import fused, linear_of, norm_of
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.quantize.forms import beside
from heavylift_runtime.native.vocabulary import Vocabulary


def build(shape: Shape, weights: Weights, group: Group) -> Decoder:
    """Takes the weights in the order of the family's table, so that the loader can read ahead."""
    table = weights.take(GPTJ.embedding)
    blocks = [_block(shape, weights, group, LAYER.format(layer)) for layer in range(shape.layers)]
    norm = norm_of(weights, FINAL, shape.epsilon)
    head = None if shape.tied else weights.matrix(GPTJ.head)
    vocabulary = Vocabulary(group, shape.vocabulary, table, head, weights.take(HEAD_BIAS))
    heads = Heads.of(shape, group, table.dtype)
    return Decoder(vocabulary, heads, blocks, norm, table.dtype, positions=shape.positions)


def _block(shape: Shape, weights: Weights, group: Group, prefix: str) -> Parallel:
    norm = norm_of(weights, f"{prefix}.ln_1", shape.epsilon)
    qkv = fused([linear_of(weights, f"{prefix}.attn.{name}_proj", bias=False) for name in "qkv"])
    inner = Inner(Linear(*linear_of(weights, f"{prefix}.mlp.fc_in")), shape.activation)
    mixed = weights.matrix(f"{prefix}.attn.out_proj.weight")
    down, bias = linear_of(weights, f"{prefix}.mlp.fc_out")
    return Parallel(norm, qkv, None, inner, Output(beside([mixed, down]), group, bias))
