"""The likeliest token without most of the head's product: a copy of the head in 8 bits rules out all but a few tokens.

Not an approximation: the token and its score are those of the whole product, bit for bit; what the copy can be wrong by
is bounded (kernels/head.c), and the tokens that the bound leaves are computed. Greedy tokens only: whoever needs all
scores computes them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heavylift_runtime.native.kernels import calls

ROWS = {torch.float32: 32, torch.bfloat16: 2}
"""Rows up to which it is used: beyond, multiplying with whole numbers in two parts costs what their bytes save."""
SMALLEST = 2**22
"""Numbers in a head from which it takes a noticeable part of a step."""
SHARE = 0.1
"""Of a rank's weights, at most, for the copy; a plan counts 0.12 of them for what a load takes besides."""
PATIENCE = 8
"""Steps in a row that may be in vain."""


def worth(head: Tensor, held: int) -> bool:
    """Whether a head is large enough, its copy small beside the rank's weights, and there are kernels for it."""
    able = calls.usable(head) and head.shape[1] <= calls.LONGEST
    return able and SMALLEST <= head.numel() <= SHARE * held


class Screened:
    """A head, (n, d) fp32 or bf16, and its copy; without a bias."""

    def __init__(self, head: Tensor) -> None:
        rounded, self._lengths, self._errors = calls.narrow(head)
        self._exact, self._rough = calls.Product(head), calls.Product(rounded)
        self._vain = 0

    def about(self, hidden: Tensor) -> Tensor:
        """(N, d) → what the copy gives, (N, n) fp32"""
        return self._rough(hidden.float())

    def __call__(self, hidden: Tensor) -> tuple[Tensor, Tensor, bool]:
        """(N, d) → scores (N,) fp32, places (N,), and whether it is of use to go on so."""
        rough = self.about(hidden)
        scores, places, looked = calls.screen(self._exact, rough, self._lengths, self._errors, hidden)
        self._vain = self._vain + 1 if looked * 4 > rough.numel() else 0
        return scores, places, self._vain < PATIENCE
