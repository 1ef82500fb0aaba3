"""What one pass through the model reads: one more token of each running row, and portions of prompts, without padding.

Not the choice of who is in it (scheduler.py). Of N tokens, first come those of the rows, in the order of their slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heavylift_runtime.native.place import sent


@dataclass(frozen=True)
class Chunk:
    """Tokens [first, first + count) of the text in a slot; `source`: how many tokens its encoder has read."""

    slot: int
    first: int
    count: int
    source: int = 0


@dataclass(frozen=True)
class Source:
    """What the encoder is to read for a slot."""

    slot: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """One pass."""

    tokens: Tensor
    """(N,) int64"""
    positions: Tensor
    """(N,) int64"""
    at: tuple[int, ...]
    """The positions of the rows' tokens."""
    first: int = 0
    """The rows' slots begin here."""
    turns: int = 1
    """Each row reads so many tokens: the first ones of all rows come first, then the second ones."""
    chunks: tuple[Chunk, ...] = ()
    read: tuple[int, ...] = ()
    """With an encoder, how many source tokens each row looks at."""
    wanted: Tensor | None = None
    """(M,) int64: after which of the N tokens the next one is wanted; None: after each."""
    apart: bool = False
    """Each row attends for itself, over its own length: what it gets depends on no other."""
    looked: Tensor | None = None
    """(B,) int64, where `at` and `read` say only how much there is room for: how much each row has read."""

    @classmethod
    def of(
        cls,
        rows: Sequence[tuple[int, int]],
        texts: Sequence[tuple[Chunk, Sequence[int]]] = (),
        *,
        ends: Sequence[bool] | None = None,
        first: int = 0,
        padding: int = 0,
        read: Sequence[int] = (),
        apart: bool = False,
        turns: int = 1,
    ) -> Batch:
        """`rows`: each one's token and position, turn by turn; `texts`: chunks with their tokens.

        `ends`: whether a text ends there; `padding`: tokens at the end that belong to nobody, where the number of rows
        must not change.
        """
        tokens = [token for token, _ in rows]
        positions = [position for _, position in rows]
        wanted = list(range(len(rows)))
        for (chunk, text), end in zip(texts, ends or [True] * len(texts), strict=True):
            tokens += text
            positions += range(chunk.first, chunk.first + chunk.count)
            if end:
                wanted.append(len(tokens) - 1)
        tokens += [0] * padding
        return cls(
            torch.tensor(tokens),
            torch.tensor(positions + [0] * padding),
            tuple(position for _, position in rows),
            first,
            turns,
            tuple(chunk for chunk, _ in texts),
            tuple(read),
            torch.tensor(wanted, dtype=torch.int64) if texts else None,
            apart,
        )

    def on(self, device: torch.device) -> Batch:
        """The same for a model on that device."""
        if device.type == "cpu":
            return self
        wanted = None if self.wanted is None else sent(self.wanted, device)
        return replace(self, tokens=sent(self.tokens, device), positions=sent(self.positions, device), wanted=wanted)

    def pick(self, x: Tensor) -> Tensor:
        """(N, d) → (M, d), of the tokens that are wanted"""
        return x if self.wanted is None else x.index_select(0, self.wanted)
