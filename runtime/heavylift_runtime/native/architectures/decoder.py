"""The forward pass that all decoder-only families share: prompts at once without padding, answers token by token.

Not a family: llama.py and its neighbours build the blocks. B rows, N tokens of all rows together, d the model's width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from heavylift_runtime.native.architectures.attention import Continuing, Heads, Reading
from heavylift_runtime.native.architectures.blocks import Block
from heavylift_runtime.native.cache import TextCache
from heavylift_runtime.native.vocabulary import Vocabulary

PORTION = 4096
"""Tokens of prompts that go through the layers at once, or one longer prompt: it bounds the activations' memory."""


class Decoder:
    """One rank's part of a decoder-only model."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        heads: Heads,
        blocks: Sequence[Block],
        leave: Callable[[Tensor], Tensor],
        dtype: torch.dtype,
        *,
        enter: Callable[[Tensor, Tensor], Tensor] = lambda embedded, positions: embedded,
        positions: int | None = None,
    ) -> None:
        """`enter`: embeddings (N, e) and positions (N,) → (N, d); `leave`: (N, d) → what the head gets."""
        self.vocabulary, self.heads, self.dtype, self.positions = vocabulary, heads, dtype, positions
        self._blocks, self._enter, self._leave = blocks, enter, leave

    def begin(self, ids: Tensor, lengths: Tensor, start: int) -> Decoding:
        """Reads the prompts, ids (B, S) of the given lengths (B,), which the answers continue; `start` is not used."""
        counts = lengths.tolist()
        cache = self.cache(counts)
        last = []
        for first, stop in portions(counts, PORTION):
            hidden = self.read(ids[first:stop], counts[first:stop], cache, first)
            last.append(hidden.index_select(0, torch.tensor(counts[first:stop]).cumsum(0) - 1))
        return Decoding(self, cache, torch.tensor(counts), self._leave(torch.cat(last)))

    def cache(self, counts: Sequence[int]) -> TextCache:
        """An empty one for prompts of so many tokens."""
        heads = self.heads
        return TextCache(heads.windows, heads.pairs, heads.width, self.dtype, counts, heads.slopes)

    def read(self, ids: Tensor, counts: Sequence[int], cache: TextCache, first: int = 0) -> Tensor:
        """Prompts, the rows of the cache from `first` on → (N, d) of all their tokens, before `leave`."""
        reading = Reading(self.heads, cache, first, counts)
        tokens = torch.cat([row[:count] for row, count in zip(ids, counts, strict=True)])
        return self._through(self.vocabulary.embed(tokens), reading.positions, reading)

    def scores(self, hidden: Tensor) -> Tensor:
        """(N, d) as `read` gives it → logits (N, V) in fp32, for inspection."""
        return self.vocabulary.logits(self._leave(hidden))

    def continued(self, embedded: Tensor, positions: Tensor, cache: TextCache) -> Tensor:
        """One embedded token of each row at its position → what the head gets, (B, e)"""
        return self._leave(self._through(embedded, positions, Continuing(self.heads, cache, positions)))

    def _through(self, embedded: Tensor, positions: Tensor, text: Reading | Continuing) -> Tensor:
        x = self._enter(embedded, positions)
        for layer, block in enumerate(self._blocks):
            x = block(x, layer, text)
        return x


class Decoding:
    """A batch on its way; each row at a position of its own."""

    def __init__(self, model: Decoder, cache: TextCache, positions: Tensor, hidden: Tensor) -> None:
        """`positions`: (B,), of the next tokens; `hidden`: what the head gets for them."""
        self._model, self._cache, self._positions = model, cache, positions
        self._hidden: Tensor | None = hidden
        self._embedded = hidden

    def step(self) -> Tensor:
        """The next token of each row, greedily: (B,) int64"""
        hidden = self.forward(self._embedded) if self._hidden is None else self._hidden
        self._hidden = None
        tokens, self._embedded = self._model.vocabulary.choose(hidden)
        return tokens

    def forward(self, embedded: Tensor) -> Tensor:
        """One embedded token of each row, (B, e) → what the head gets, (B, e)"""
        hidden = self._model.continued(embedded, self._positions, self._cache)
        self._positions = self._positions + 1
        return hidden

    def keep(self, rows: list[int]) -> None:
        """Only these rows go on."""
        index = torch.tensor(rows)
        self._cache.keep(index)
        self._positions = self._positions.index_select(0, index)
        self._embedded = self._embedded.index_select(0, index)


def portions(counts: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Neighbouring rows `[first, stop)` of at most so many tokens together, or one row."""
    first = total = 0
    for row, count in enumerate(counts):
        if row > first and total + count > most:
            yield first, row
            first, total = row, 0
        total += count
    yield first, len(counts)
