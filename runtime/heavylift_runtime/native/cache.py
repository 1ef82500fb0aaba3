"""What a decoder remembers: keys and values of its own tokens, growing; those of the source text, fixed.

Not the attention over them. All rows of a batch write at the same place; where prompts are part of what is remembered
(TextCache), shorter ones begin later, so that they end together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

FIRST = 16
"""Positions at the start; doubled when full, so that short answers attend over little."""
STEP = 16
"""Places of a TextCache by which what is attended over grows."""


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


class TextCache:
    """Keys and values of prompt and answer, for a decoder without encoder; B rows, P key-value heads of width D.

    Row b's text begins at place `longest - lengths[b]`, so a key's distance from the query is that of their places,
    and every position bias is the same for all rows. What must not be seen is masked: what is before a row's text,
    what is not written yet, and, in layers with a window, what is out of it.
    """

    def __init__(
        self,
        windows: Sequence[int | None],
        pairs: int,
        width: int,
        dtype: torch.dtype,
        lengths: Sequence[int],
        slopes: Tensor | None = None,
    ) -> None:
        """`windows`: for each layer, None or how many tokens a query sees; `lengths`: of the prompts; `slopes`: (H,)"""
        self.length = max(lengths)
        self._windows, self._slopes = tuple(windows), slopes
        self._starts = [self.length - length for length in lengths]
        begins = torch.tensor(self._starts).unsqueeze(1)
        places = torch.arange(self.length)
        masks = {}
        for window in set(windows):
            from_window = 0 if window is None else self.length - window
            seen = (places >= begins) & (places >= from_window)  # (B, length)
            masks[window] = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)
        self._allocate(torch.empty(len(windows), 2, len(lengths), pairs, 0, width, dtype=dtype), masks)

    def _allocate(self, content: Tensor, masks: Mapping[int | None, Tensor]) -> None:
        """Adopts (layers, 2, B, P, T, D) and masks (B, T), with new room behind both; T is 0 at the start."""
        fresh = max(STEP, self.length // 2) // STEP * STEP
        room = -(-self.length // STEP) * STEP + fresh
        # zeros, for a masked position's value is still multiplied, by 0
        self._content = content.new_zeros(*content.shape[:4], room, content.shape[5])
        held = content[..., : self.length, :]
        self._content[..., : held.shape[4], :] = held
        self._masks = {
            window: torch.nn.functional.pad(mask[:, : self.length], (0, room - self.length), value=-torch.inf)
            for window, mask in masks.items()
        }
        if self._slopes is not None:
            # a query at t sees key j with -slope * (t - j): a window over the falling distances
            distances = torch.arange(1 - room, room).to(content.dtype)
            self._past = self._slopes.to(content.dtype).unsqueeze(1) * distances  # (H, 2 T - 1)
        self._room, self._span = room, 0

    def fill(self, layer: int, row: int, keys: Tensor, values: Tensor) -> None:
        """Remembers a prompt: keys, values (P, n, D)."""
        place = self._content[layer, :, row, :, self._starts[row] : self.length]
        place[0].copy_(keys)
        place[1].copy_(values)

    def next(self) -> tuple[list[Tensor], list[Tensor]]:
        """For one more token, by layer: where its (2, B, P, D) goes, and the bias (B * P, 1 or G, T) of its queries.

        Afterwards `keys` and `values` are the layers' (B * P, D, T) and (B * P, T, D).
        """
        if self.length == self._room:
            self._allocate(self._content, self._masks)
        layers, _, rows, pairs, room, width = self._content.shape
        at = self.length
        self.length += 1
        if at >= self._span:
            self._span = -(-self.length // STEP) * STEP
            flat = self._content.view(layers, 2, rows * pairs, room, width)[:, :, :, : self._span]
            self.keys = list(flat[:, 0].transpose(2, 3).unbind(0))
            self.values = list(flat[:, 1].unbind(0))
        biases = {}
        for window, mask in self._masks.items():
            mask[:, at] = 0
            if window is not None and at >= window:
                mask[:, at - window] = -torch.inf
            biases[window] = self._bias(mask[:, : self._span], at, rows, pairs)
        return list(self._content.select(4, at).unbind(0)), [biases[window] for window in self._windows]

    def _bias(self, mask: Tensor, at: int, rows: int, pairs: int) -> Tensor:
        if self._slopes is None:
            return mask[:, None, None].expand(rows, pairs, 1, self._span).reshape(rows * pairs, 1, self._span)
        past = self._past.narrow(1, self._room - 1 - at, self._span)  # (H, T)
        return (mask.unsqueeze(1) + past).view(rows * pairs, -1, self._span)

    def keep(self, rows: Tensor) -> None:
        """Only these rows (int64) remain."""
        masks = {window: mask.index_select(0, rows) for window, mask in self._masks.items()}
        self._allocate(self._content.index_select(2, rows), masks)
