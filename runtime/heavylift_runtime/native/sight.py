"""What a query sees, and how strongly: the bias on its scores by its distance to each key, -inf where it must not look.

Not attention itself. Causality, sliding windows, ALiBi's slopes and T5's learned biases all depend on distance alone,
so that rows at different positions look at the same table from different places.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FIRST = 128
"""Positions that the table begins with; doubled when they are too few."""


class Sight:
    """The biases of one kind of layer; K is 1, or as many as there are query heads."""

    def __init__(self, past: Callable[[int], Tensor], *, plain: bool = False) -> None:
        """`past(n)`: (K, n), on keys n - 1, …, 1, 0 positions before the query; `plain`: all of them are 0."""
        self._past, self.plain, self._reach = past, plain, 0

    def of(self, positions: Tensor, span: int) -> Tensor:
        """Queries at `positions` (n,) over the keys [0, span): (K, n, span)"""
        reach = max(span, FIRST)
        if reach > self._reach:
            reach = self._reach = max(reach, 2 * self._reach)
            past = self._past(reach)
            # a query at t sees key j at place reach - 1 - t + j: the past, furthest first, then the hidden future
            self._table = torch.cat([past, torch.full_like(past, -torch.inf)], 1)
        return self._table.unfold(1, span, 1).index_select(1, self._reach - 1 - positions)


def causal(dtype: torch.dtype, window: int | None) -> Sight:
    """A query sees what is before it, itself included: all of it, or the last `window` tokens."""

    def past(count: int) -> Tensor:
        bias = torch.zeros(1, count, dtype=dtype)
        return bias if window is None else bias.masked_fill_(torch.arange(count, 0, -1) > window, -torch.inf)

    return Sight(past, plain=window is None)


def fading(dtype: torch.dtype, slopes: Tensor) -> Sight:
    """ALiBi (Press et al. 2022): a query sees what is before it the less, the further away it is; slopes (H,) fp32."""
    return Sight(lambda count: (slopes.unsqueeze(1) * -torch.arange(count - 1, -1, -1)).to(dtype))
