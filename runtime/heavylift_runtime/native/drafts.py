"""Several tokens of each row in one pass: the next ones are guessed, and the pass proves them.

Not an approximation: a guess stands only where the model itself, given what stood before, would have said the same, and
each number of a pass is the same bits whatever rows go beside it. So greedy tokens are those without guesses (but
for where others' long prompts are split meanwhile, which bf16 shows: docs/limits.md), and a wrong guess costs time only
(speculative decoding, Leviathan et al. 2023). On a processor a step takes as long as reading its weights, and a pass
over a few tokens reads them once. Guesses come from the text, where it repeats itself (repeats.py), and from the model
in 8 bits (as its own draft in fewer bits: Tiwari et al. 2025), where such a guess reads a quarter of fp32's. The caches
are the model's own: what a guess wrote there the pass overwrites.
How many pay depends on how many have been right lately (Leviathan et al. 2023, section 3.5): none, where too few are.
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass

import torch

from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.batch import Batch, Chunk
from heavylift_runtime.native.cache import Store
from heavylift_runtime.native.linear import drafting
from heavylift_runtime.native.passes import Pass
from heavylift_runtime.native.repeats import LONGEST, Repeats
from heavylift_runtime.native.sequence import Sequence

MOST = 8
"""Tokens of a pass: of more, multiplying takes longer than reading. With 16, guesses for four rows brought nothing."""
ROW, BLOCK, BEYOND = {torch.float32: 0.05, torch.bfloat16: 0.1}, 6, 0.3
"""What each further token adds to a pass over one, and all that are more than the kernels multiply at once, besides."""
GUESS = {torch.float32: 0.3, torch.bfloat16: 0.6}
"""What a copy's guess takes of a pass that goes without. All measured on T5-base and Llama's 350 M, two cores
(docs/limits.md)."""
FADES, TRIED = 0.9, 10.0
"""Of each pass less counts what was seen before; at first, as if of so many guesses a share had been right: FIRST."""
COPIES, ANEW, FIRST = -1, 0, (0.0, *[0.5] * LONGEST, FADES)
"""What guessed: the copies in 8 bits; nothing, so that it is the last token again; else, so many tokens were found."""
AGAIN = 32
"""Passes after which the copies guess a single token again, where no guess pays."""


@dataclass
class Share:
    """How many of the guesses of a kind have been right lately."""

    right: float
    tried: float = TRIED

    def learn(self, right: int, wrong: int) -> None:
        """Of a row's guesses, how many were right, and whether the next one, 0 or 1, was not."""
        if right or wrong:  # of nothing tried, again and again, nothing would be left to divide by
            self.right = FADES * self.right + right
            self.tried = FADES * self.tried + right + wrong

    @property
    def now(self) -> float:
        return self.right / self.tried


class Drafts:
    """Guesses for the rows of one lane."""

    def __init__(self, model: Model, stores: Several[Store], length: int, *, copied: bool) -> None:
        """`length`: guesses for each row, at most. Called on all ranks at once, while no slot is taken.

        `copied`: the model guesses too, by copies in 8 bits that are made here: a quarter of fp32's bytes of what a
        decoding step multiplies with.
        """
        self._model, self._stores, self._length, self._copied = model, stores, length, copied
        self._repeats = Repeats()
        self.forget()
        if not copied:
            return
        # read as a portion of a prompt, of which no calls are kept
        batch = Batch.of([], [(Chunk(0, 0, 1, source=1 if model.encodes else 0), [0])])
        with torch.inference_mode():
            self._guess(batch)
        for store in stores:
            store.drop(0)

    def __call__(self, each: Pass) -> Pass:
        """A pass that also reads what is guessed to follow each row's token; the same one where nothing can be."""
        rows = [sequence for sequence in each.wanting if sequence is not None]
        most = self._most(each, rows)
        if most <= 0:
            return each
        for sequence in rows:
            sequence.foreseen = self._repeats(sequence, most)
        copied, count = self.worth([sequence.foreseen[0] for sequence in rows], most)
        if not count:
            return each
        read, turns = each.batch.read, [list(zip(each.batch.tokens.tolist(), each.batch.at, strict=True))]
        for turn in range(count):
            guessed = [sequence.foreseen[1][turn] for sequence in rows]
            if copied:
                guessed = self._guess(Batch.of(turns[-1], read=read))
            turns.append([(token, at + 1) for token, (_, at) in zip(guessed, turns[-1], strict=True)])
        for place, sequence in enumerate(rows):
            sequence.guessed, sequence.copied = [turn[place][0] for turn in turns[1:]], copied
        batch = Batch.of([token for turn in turns for token in turn], read=read, turns=len(turns))
        return Pass(batch, [*rows] * len(turns))

    def _most(self, each: Pass, rows: list[Sequence]) -> int:
        """Guesses for each row, at most: only greedy answers that have begun, nobody beyond the end of an answer."""
        if each.batch.chunks or len(rows) < len(each.batch.tokens):
            return 0
        if not all(sequence.plain and sequence.width == 1 and sequence.generated for sequence in rows):
            return 0
        left = min(sequence.sampling.max_new_tokens - sequence.generated for sequence in rows)
        return min(self._length, MOST // len(rows) - 1, left - 1)

    def forget(self) -> None:
        """As at first: what ranks have learned must be the same, and here it may not be."""
        self._shares = [Share(first * TRIED) for first in FIRST]
        self._without = 0

    def learn(self, sequence: Sequence, said: list[int], *, over: bool) -> None:
        """What a row's pass brought: also what the text would have guessed is held against it, whoever guessed.

        `over`: the answer ended there, and what was guessed beyond was not looked at.
        """
        kind, foreseen = sequence.foreseen
        if foreseen:
            self._shares[kind].learn(*_proved(foreseen, said))
        if sequence.guessed and sequence.copied:
            right = len(said) - 1
            self._shares[COPIES].learn(right, not over and right < len(sequence.guessed))
        sequence.foreseen, sequence.guessed = (ANEW, []), []

    def worth(self, kinds: list[int], most: int) -> tuple[bool, int]:
        """How many guesses bring the most tokens in the same time, and whether it is the copies that guess.

        `kinds`: of each row, what the text would guess with.
        """
        best, gain = (False, 0), 1.0
        for copied in (False, True) if self._copied else (False,):
            shares = [self._shares[COPIES if copied else kind].now for kind in kinds]
            stand, tokens, before = shares, float(len(kinds)), 1.0
            for count in range(1, most + 1):  # each guess stands only where those before it do, and brings less
                tokens += sum(stand)
                now = tokens / len(kinds) / self._takes(len(kinds), copied, count)
                if now <= before:
                    break
                if now > gain:
                    best, gain = (copied, count), now
                before, stand = now, [each * share for each, share in zip(stand, shares, strict=True)]
        self._without = 0 if best[1] else self._without + 1
        return (True, 1) if self._copied and self._without and self._without % AGAIN == 0 else best

    def _takes(self, rows: int, copied: bool, guesses: int) -> float:
        """So many guesses for each row and the pass that proves them, in passes without."""
        dtype = self._model.dtype
        alone, proved = (
            1 + ROW[dtype] * (tokens - 1) + BEYOND * ((tokens - 1) // BLOCK) for tokens in (rows, rows * (1 + guesses))
        )
        return proved / alone + (guesses * GUESS[dtype] if copied else 0.0)

    def _guess(self, batch: Batch) -> list[int]:
        with drafting():
            hidden = self._model.forward(batch, self._stores)
        guessed: list[int] = self._model.vocabulary.guess(hidden).tolist()
        return guessed


def _proved(foreseen: list[int], said: list[int]) -> tuple[int, int]:
    """How many tokens were foreseen, and whether the next one, 0 or 1, was not."""
    for place, (token, found) in enumerate(zip(said, foreseen, strict=False)):
        if token != found:
            return place, 1
    return min(len(said), len(foreseen)), 0
