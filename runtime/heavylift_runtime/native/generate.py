"""Greedy decoding of a batch: when each row ends, and which rows still run.

Not the model, and it knows no text: tokens in, tokens out. Every rank runs it in step, on the same tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Decoding(Protocol):
    """A batch that a model is decoding."""

    def step(self) -> Tensor:
        """The next token of each row that still runs."""

    def keep(self, rows: list[int]) -> None:
        """Only these of the rows that still run go on."""


@dataclass(frozen=True)
class Answer:
    """One row's tokens, the end-of-sequence token among them where it ended so."""

    tokens: list[int]
    finish_reason: str  # "eos_token" | "length"


def greedy(decoding: Decoding, limits: Sequence[int], ends: Collection[int]) -> list[Answer]:
    """Runs every row to one of the tokens `ends` or to its own limit (at least 1), whichever is first."""
    answers: list[list[int]] = [[] for _ in limits]
    reasons = [""] * len(limits)
    running = list(range(len(limits)))  # the row of the request behind each row of the model
    active = len(running)
    while active:
        for row, token in zip(running, decoding.step().tolist(), strict=True):
            if reasons[row]:
                continue
            answers[row].append(token)
            if token in ends:
                reasons[row] = "eos_token"
            elif len(answers[row]) == limits[row]:
                reasons[row] = "length"
            else:
                continue
            active -= 1
        # dropping a row copies the caches, which only pays once half of the rows compute for nothing
        if 0 < active <= len(running) // 2:
            kept = [place for place, row in enumerate(running) if not reasons[row]]
            decoding.keep(kept)
            running = [running[place] for place in kept]
    return [Answer(tokens, reason) for tokens, reason in zip(answers, reasons, strict=True)]
