"""Several tokens of each row in one pass: the next ones are guessed with 8-bit weights, and the pass proves them.

Not an approximation: a guess stands only where the model itself, given what stood before, would have said the same, and
each number of a pass is the same bits whatever rows go beside it. So greedy tokens are those without guesses, and a
wrong guess costs time only (speculative decoding, Leviathan et al. 2023; the model as its own draft in fewer bits:
Tiwari et al. 2025). On a processor a step takes as long as reading its weights: a guess reads a quarter of fp32's, and
a pass over a few tokens reads them once. The caches are the model's own: what a guess wrote there the pass overwrites.
"""

from __future__ import annotations

from collections.abc import Sequence as Several

import torch

from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.batch import Batch, Chunk
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.linear import drafting
from heavylift_runtime.native.passes import Pass
from heavylift_runtime.native.sequence import Sequence

MOST = 8
"""Tokens of a pass: of more, multiplying takes longer than reading. With 16, guesses for four rows brought nothing."""


class Drafts:
    """Guesses for the rows of one lane."""

    def __init__(self, model: Model, stores: Several[Store], length: int) -> None:
        """`length`: guesses for each row, at most. Called on all ranks at once, while no slot is taken.

        The copies in 8 bits are made here: a quarter of fp32's bytes of what a decoding step multiplies with.
        """
        self._model, self._stores, self._length = model, stores, length
        # read as a portion of a prompt, of which no calls are kept
        batch = Batch.of([], [(Chunk(0, 0, 1, source=1 if model.encodes else 0), [0])])
        with torch.inference_mode():
            self._guess(batch)
        for store in stores:
            store.drop(0)

    def __call__(self, each: Pass) -> Pass:
        """A pass that also reads what is guessed to follow each row's token; the same one where nothing can be."""
        rows = [sequence for sequence in each.wanting if sequence is not None]
        count = self._count(each, rows)
        if count <= 0:
            return each
        read, turns = each.batch.read, [list(zip(each.batch.tokens.tolist(), each.batch.at, strict=True))]
        for _ in range(count):
            guessed = self._guess(Batch.of(turns[-1], read=read))
            turns.append([(token, at + 1) for token, (_, at) in zip(guessed, turns[-1], strict=True)])
        for place, sequence in enumerate(rows):
            sequence.guessed = [turn[place][0] for turn in turns[1:]]
        batch = Batch.of([token for turn in turns for token in turn], read=read, turns=len(turns))
        return Pass(batch, [*rows] * len(turns))

    def _count(self, each: Pass, rows: list[Sequence]) -> int:
        """Guesses for each row: only greedy answers that have begun, and nobody beyond the end of an answer."""
        if each.batch.chunks or len(rows) < len(each.batch.tokens):
            return 0
        if not all(sequence.plain and sequence.width == 1 and sequence.generated for sequence in rows):
            return 0
        left = min(sequence.sampling.max_new_tokens - sequence.generated for sequence in rows)
        return min(self._length, left - 1, MOST // len(rows) - 1)

    def _guess(self, batch: Batch) -> list[int]:
        with drafting():
            hidden = self._model.forward(batch, self._stores)
        guessed: list[int] = self._model.vocabulary.guess(hidden).tolist()
        return guessed
