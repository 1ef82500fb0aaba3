"""What a query sees, and how strongly: the bias on its scores by its distance to each key, -inf where it must not look.

Not attention itself. Causality, sliding windows, ALiBi's slopes and T5's learned biases all depend on distance alone,
so that rows at different positions look at the same table from different places.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heavylift_runtime.native.kernels.arguments import Seen as Fields
from heavylift_runtime.native.kernels.lookups import Seen

FIRST = 128
"""Positions that the table begins with; doubled when they are too few."""


class Sight:
    """The biases of one kind of layer; K is 1, or as many as there are query heads."""

    def __init__(self, past: Callable[[int], Tensor], *, plain: bool = False) -> None:
        """`past(n)`: (K, n), on keys n - 1, …, 1, 0 positions before the query; `plain`: all of them are 0."""
        self._past, self.plain, self._reach = past, plain, 0

    def of(self, positions: Tensor, span: int) -> Tensor:
        """Queries at `positions` (n,) over the keys [0, span): (K, n, span)"""
        return _lines(self._reaching(span), positions, span)

    def seen(self, positions: Tensor, span: int, pairs: int) -> Past:
        """The same for rows with one query for each head, of `pairs` key-value heads."""
        return Past(self._reaching(span), positions, span, pairs)

    def _reaching(self, span: int) -> Tensor:
        """(K, 2 reach): a query at t sees key j at place reach - 1 - t + j"""
        reach = max(span, FIRST)
        if reach > self._reach:
            reach = self._reach = max(reach, 2 * self._reach)
            past = self._past(reach)
            # the past, furthest first, then the hidden future
            self._table = torch.cat([past, torch.full_like(past, -torch.inf)], 1)
        return self._table


class Past(Seen):
    """What rows' queries see of their own texts, in a table of biases by distance."""

    def __init__(self, table: Tensor, positions: Tensor, span: int, pairs: int) -> None:
        """`table`: (1 or H, 2 reach); `positions`: (B,) int64; `pairs`: P, each for H / P queries."""
        super().__init__(table)
        self.span = span
        self._positions, self._pairs = positions, pairs
        self._lines: Tensor | None = None

    @property
    def bias(self) -> Tensor:
        """(B * P, 1 or H / P, span)"""
        if self._lines is None:
            lines = _lines(self._bias, self._positions, self.span).transpose(0, 1)
            rows, kinds, span = lines.shape
            by_pair = lines.expand(rows, self._pairs, span) if kinds == 1 else lines
            self._lines = by_pair.reshape(rows * self._pairs, -(-kinds // self._pairs), span)
        return self._lines

    def fields(self) -> Fields:
        kinds, width = self._bias.shape
        begin = self._bias.data_ptr() + (width // 2 - 1) * self._bias.itemsize
        step = width if kinds > 1 else 0
        return Fields(begin, self._positions.data_ptr(), self.span, kinds // self._pairs * step, step)


def _lines(table: Tensor, positions: Tensor, span: int) -> Tensor:
    """Of a table (K, 2 reach), (K, n, span)"""
    return table.unfold(1, span, 1).index_select(1, table.shape[1] // 2 - 1 - positions)


def causal(dtype: torch.dtype, window: int | None) -> Sight:
    """A query sees what is before it, itself included: all of it, or the last `window` tokens."""

    def past(count: int) -> Tensor:
        bias = torch.zeros(1, count, dtype=dtype)
        return bias if window is None else bias.masked_fill_(torch.arange(count, 0, -1) > window, -torch.inf)

    return Sight(past, plain=window is None)


def fading(dtype: torch.dtype, slopes: Tensor) -> Sight:
    """ALiBi (Press et al. 2022): a query sees what is before it the less, the further away it is; slopes (H,) fp32."""
    return Sight(lambda count: (slopes.unsqueeze(1) * -torch.arange(count - 1, -1, -1)).to(dtype))
