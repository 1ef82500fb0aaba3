"""The forward pass of Mixtral (Jiang et al. 2024) on one rank: each token visits a few experts of each layer.

Not its table of weights (families/mixtral.py). Every rank holds a part of every expert, so that all are equally busy.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from heavylift_runtime.families.llama import LAYER
from heavylift_runtime.families.mixtral import EXPERTS, Mixtral, MixtralShape
from heavylift_runtime.native.architectures.attention import Heads
from heavylift_runtime.native.architectures.blocks import Inner, PreNorm
from heavylift_runtime.native.architectures.decoder import Decoder, assemble
from heavylift_runtime.native.architectures.llama import attention_of, final_norm
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.kernels.recording import between
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.quantize.joined import stacked

FEW = 8
"""Rows of which an expert's weights cost more to read than its products take."""


class Experts:
    """A router, and the experts of a layer; a token's output is the weighted sum of those that it is sent to."""

    def __init__(self, shape: MixtralShape, weights: Weights, group: Group, prefix: str) -> None:
        self._router = Linear(weights.take(f"{prefix}.gate.weight"))
        self._experts = [_expert(shape, weights, f"{prefix}.experts.{number}") for number in range(shape.experts)]
        self._chosen, self._group = shape.chosen, group

    def __call__(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual + experts(x), (N, d)"""
        total = kernels.empty(residual, *residual.shape)
        between(lambda: self._visit(total, residual, x))
        return total

    def _visit(self, total: Tensor, residual: Tensor, x: Tensor) -> None:
        """Which experts a token is sent to is known only then: no row of kernels' calls."""
        shares, chosen = torch.softmax(self._router(x).float(), 1).topk(self._chosen, 1)  # (N, chosen)
        shares = (shares / shares.sum(1, keepdim=True)).to(x.dtype)
        # the residual is in the sum over the ranks once: rank 0 brings it
        if self._group.rank == 0:
            total.copy_(residual)
        else:
            total.zero_()
        for number in torch.unique(chosen).tolist():
            token, place = (chosen == number).nonzero(as_tuple=True)
            inner, down = self._experts[number]
            # of few rows all take the way: it costs no more, and what one gets depends on no other's choice
            output = down(inner(x))[token] if len(x) <= FEW else down(inner(x[token]))
            total.index_add_(0, token, output * shares[token, place].unsqueeze(1))
        self._group.all_reduce(total)


def _expert(shape: MixtralShape, weights: Weights, name: str) -> tuple[Inner, Linear]:
    gate_and_up = stacked([weights.matrix(f"{name}.w1.weight"), weights.matrix(f"{name}.w3.weight")])
    return Inner(Linear(gate_and_up), shape.activation, gated=True), Linear(weights.matrix(f"{name}.w2.weight"))


def build(shape: MixtralShape, weights: Weights, group: Group) -> Decoder:
    """A rank's part of a stage."""
    heads = Heads.of(shape, weights, group)

    def block(number: int) -> PreNorm:
        prefix = LAYER.format(number)
        norm, attention, second = attention_of(shape, weights, group, heads, prefix)
        return PreNorm(norm, attention, second, Experts(shape, weights, group, f"{prefix}.{EXPERTS}"))

    return assemble(Mixtral, shape, weights, group, heads, block, partial(final_norm, shape, weights))
