"""What follows in a text that repeats itself: the tokens that came after the same last few, the time before.

Not a model: it reads the prompt and the answer only, in 0.1 ms or less for a row (prompt lookup decoding, Saxena 2023;
the same as vLLM's `ngram`). drafts.py says what such guesses are worth; a pass proves them.
"""

from __future__ import annotations

from array import array
from weakref import WeakKeyDictionary

from heavylift_runtime.native.sequence import Sequence

LONGEST = 3
"""Tokens that are looked for, at most: where those are found the guess is mostly right, and more find less."""


class Repeats:
    """Of each sequence, its tokens as bytes: those are searched as fast as memory is read."""

    def __init__(self) -> None:
        self._told: WeakKeyDictionary[Sequence, array[int]] = WeakKeyDictionary()

    def __call__(self, sequence: Sequence, count: int) -> tuple[int, list[int]]:
        """The next `count` tokens as they were after the last occurrence of the last ones, and how many these are.

        What is not there yet repeats itself too. With nothing found, 0 and the last token again.
        """
        told = self._told.get(sequence)
        if told is None:
            told = self._told[sequence] = array("i", sequence.source)
        told.extend(sequence.text[len(told) - len(sequence.source) :])
        length, start = _found(told)
        follow = told[start : start + count]
        period = len(told) - start
        return length, [follow[place % period] for place in range(count)]


def _found(told: array[int]) -> tuple[int, int]:
    """How many of the last tokens were there before, and where what followed them begins."""
    spelt, width = told.tobytes(), told.itemsize
    for length in range(min(LONGEST, len(told) - 1), 0, -1):
        tail, end = spelt[-length * width :], len(spelt) - width
        while (at := spelt.rfind(tail, 0, end)) >= 0:
            if at % width == 0:
                return length, at // width + length
            end = at + len(tail) - 1
    return 0, len(told) - 1
