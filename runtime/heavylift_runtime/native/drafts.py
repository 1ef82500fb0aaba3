"""Several tokens of each row in one pass: the next ones are guessed with 8-bit weights, and the pass proves them.

Not an approximation: a guess stands only where the model itself, given what stood before, would have said the same, and
each number of a pass is the same bits whatever rows go beside it. So greedy tokens are those without guesses, and a
wrong guess costs time only (speculative decoding, Leviathan et al. 2023; the model as its own draft in fewer bits:
Tiwari et al. 2025). On a processor a step takes as long as reading its weights: a guess reads a quarter of fp32's, and
a pass over a few tokens reads them once. The caches are the model's own: what a guess wrote there the pass overwrites.
How many pay depends on how many have been right lately (Leviathan et al. 2023, section 3.5): none, where too few are.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from itertools import accumulate

import torch

from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.batch import Batch, Chunk
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.linear import drafting
from heavylift_runtime.native.passes import Pass
from heavylift_runtime.native.sequence import Sequence

MOST = 8
"""Tokens of a pass: of more, multiplying takes longer than reading. With 16, guesses for four rows brought nothing."""
ROW, GUESS = 0.1, {torch.float32: 0.3, torch.bfloat16: 0.6}
"""What each further token adds to a pass over one, and what a guess takes of the pass that goes without: measured on
T5-base and Llama's 350 M, two cores (docs/limits.md)."""
FADES, TRIED = 0.9, 10.0
"""Of each pass less counts what was seen before; at first, as if of so many guesses the same share had been right."""
AGAIN = 32
"""Passes after which a single guess is tried again, where none pays."""


class Drafts:
    """Guesses for the rows of one lane."""

    def __init__(self, model: Model, stores: Several[Store], length: int) -> None:
        """`length`: guesses for each row, at most. Called on all ranks at once, while no slot is taken.

        The copies in 8 bits are made here: a quarter of fp32's bytes of what a decoding step multiplies with.
        """
        self._model, self._stores, self._length = model, stores, length
        self.forget()
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
        return min(self.worth(len(rows)), left - 1)

    def forget(self) -> None:
        """As at first: what ranks have learned must be the same, and here it may not be."""
        self._right, self._tried, self._without = FADES * TRIED, TRIED, 0

    def learn(self, right: int, wrong: int) -> None:
        """Of a row's guesses in a pass, how many were right, and whether the next one, 0 or 1, was not."""
        self._right = FADES * self._right + right
        self._tried = FADES * self._tried + right + wrong

    def worth(self, rows: int) -> int:
        """How many guesses bring the most tokens in the same time: each stands only where those before it do."""
        most = max(0, min(self._length, MOST // rows - 1))
        share = self._right / self._tried
        tokens = accumulate(share**count for count in range(most + 1))
        gains = [brought / self._takes(rows, count) for count, brought in enumerate(tokens)]
        best = max(range(most + 1), key=gains.__getitem__)
        self._without = 0 if best else self._without + 1
        return best or (1 if most and self._without % AGAIN == 0 else 0)

    def _takes(self, rows: int, guesses: int) -> float:
        """So many guesses for each row and the pass that proves them, in passes without."""
        alone, proved = (1 + ROW * (tokens - 1) for tokens in (rows, rows * (1 + guesses)))
        return proved / alone + guesses * GUESS[self._model.dtype]

    def _guess(self, batch: Batch) -> list[int]:
        with drafting():
            hidden = self._model.forward(batch, self._stores)
        guessed: list[int] = self._model.vocabulary.guess(hidden).tolist()
        return guessed
