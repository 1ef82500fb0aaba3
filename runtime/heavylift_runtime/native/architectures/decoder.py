"""The forward pass that all decoder-only families share: rows of one token and portions of prompts, in one flat pass.

Not a family: llama.py and its neighbours build the blocks. N tokens of all rows together, d the model's width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from heavylift_runtime.native.architectures.attention import Heads, Pass
from heavylift_runtime.native.architectures.blocks import Block
from heavylift_runtime.native.batch import Batch
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.vocabulary import Vocabulary


class Decoder:
    """One rank's part of a decoder-only model."""

    encodes = False

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

    def stores(self, slots: int, source: int, text: int) -> tuple[Store]:
        """Its cache: of texts of at most so many tokens; there are no sources."""
        heads = self.heads
        return (Store(len(self._blocks), slots, heads.pairs, text, heads.width, self.dtype, self.vocabulary.device),)

    def forward(self, batch: Batch, stores: Sequence[Store]) -> Tensor:
        """One pass → what the head gets for the tokens that are wanted, (M, e)"""
        text = Pass(self.heads, stores[0], batch)
        x = self._enter(self.vocabulary.embed(batch.tokens), batch.positions)
        for layer, block in enumerate(self._blocks):
            x = block(x, layer, text)
        x = batch.pick(x)
        return self._leave(x) if len(x) else x
