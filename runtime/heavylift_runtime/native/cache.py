"""What a decoder remembers: keys and values of its own tokens, growing; those of the source text, fixed.

Not the attention over them. All rows of a batch are at the same position.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FIRST = 16
"""Positions at the start; doubled when full, so that short answers attend over little."""


class SelfCache:
    """Keys and values of generated tokens, and the position bias of the next one; B rows, H heads of width D."""

    def __init__(
        self, layers: int, rows: int, heads: int, width: int, dtype: torch.dtype, bias: Callable[[int], Tensor]
    ) -> None:
        """`bias(n)`: (H, n), of a query over keys n - 1, … 1, 0 positions before it."""
        self.length = 0
        self._bias = bias
        # zeros, for a masked position's value is still multiplied, by 0
        self._allocate(torch.zeros(layers, 2, rows, heads, FIRST, width, dtype=dtype))

    def _allocate(self, content: Tensor) -> None:
        """Adopts (layers, 2, B, H, T, D), and prepares the views that each step needs."""
        layers, _, rows, heads, room, width = content.shape
        self._content, self._room = content, room
        flat = content.view(layers, 2, rows * heads, room, width)
        self.keys = list(flat[:, 0].transpose(2, 3).unbind(0))  # each (B * H, D, T)
        self.values = list(flat[:, 1].unbind(0))  # each (B * H, T, D)
        # a query at t sees key j at distance t - j: a window over the biases, furthest first, then the masked future
        past = self._bias(room)
        window = torch.cat([past, torch.full_like(past, -torch.inf)], 1)  # (H, 2 T)
        self._window = window.repeat(rows, 1).unsqueeze(1)  # (B * H, 1, 2 T)

    def next(self) -> tuple[list[Tensor], Tensor]:
        """For one more token: where each layer writes its (2, B, H, D), and the bias (B * H, 1, T) of its query."""
        if self.length == self._room:
            self._allocate(torch.cat([self._content, torch.zeros_like(self._content)], 4))
        bias = self._window.narrow(2, self._room - 1 - self.length, self._room)
        slots = list(self._content.select(4, self.length).unbind(0))
        self.length += 1
        return slots, bias

    def keep(self, rows: Tensor) -> None:
        """Only these rows (int64) remain."""
        self._allocate(self._content.index_select(2, rows))


class CrossCache:
    """Keys and values of the source text for each layer, and the mask of its padding; computed once."""

    def __init__(self, pairs: list[Tensor], bias: Tensor) -> None:
        """`pairs`: for each layer (2, B, H, S, D); `bias`: (B, S), 0 or -inf."""
        self._pairs, self._mask = pairs, bias
        self._prepare()

    def _prepare(self) -> None:
        flat = [pair.flatten(1, 2) for pair in self._pairs]
        self.keys = [pair[0].transpose(1, 2) for pair in flat]  # each (B * H, D, S)
        self.values = [pair[1] for pair in flat]  # each (B * H, S, D)
        heads = self._pairs[0].shape[2]
        self.bias = self._mask.repeat_interleave(heads, 0).unsqueeze(1)  # (B * H, 1, S)

    def keep(self, rows: Tensor) -> None:
        """Only these rows (int64) remain."""
        self._pairs = [pair.index_select(1, rows) for pair in self._pairs]
        self._mask = self._mask.index_select(0, rows)
        self._prepare()
