"""Beam search, as transformers does it with early_stopping=False: which tokens follow which beams, and when it is over.

Not the moving of caches (core.py): tokens and scores in, tokens and parents out. The one answer is the best finished
beam, by the sum of its log-probabilities over its length to the power of `length_penalty`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from heavylift_runtime.native.sampling import Chosen


@dataclass(frozen=True)
class Branch:
    """A beam's next token: `parent` is the place of the beam that it continues."""

    parent: int
    token: int
    score: float


@dataclass
class Search:
    """One request's search of `beams` beams for at most `longest` tokens."""

    beams: int
    length_penalty: float
    longest: int
    ends: Collection[int]
    finished: list[tuple[float, list[Chosen]]] = field(default_factory=list)
    """The best that have ended: score and tokens, best first."""
    over: bool = False

    def advance(
        self,
        logprobs: Tensor,
        scores: list[float],
        said: Sequence[list[Chosen]],
        say: Callable[[int, int], Chosen] = lambda parent, token: Chosen(token),
    ) -> list[Branch]:
        """From the log-probabilities (n, V) of what follows n beams, with their scores and tokens, the next beams.

        `say(parent, token)`: what is to be known of a token that follows a beam.
        """
        total = logprobs + torch.tensor(scores).unsqueeze(1)
        kept = max(2, 1 + len(self.ends)) * self.beams
        best = total.flatten().topk(min(kept, total.numel()))
        words = logprobs.shape[1]
        branches = [
            Branch(place // words, place % words, score)
            for place, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        length = len(said[0]) + 1
        ended = [length == self.longest or branch.token in self.ends for branch in branches]
        # only the best may finish: the others are there for when all of those do
        for branch, end in zip(branches[: self.beams], ended, strict=False):
            if end:
                tokens = [*said[branch.parent], say(branch.parent, branch.token)]
                self.finished.append((branch.score / length**self.length_penalty, tokens))
        self.finished = sorted(self.finished, key=lambda each: -each[0])[: self.beams]
        going = [branch for branch, end in zip(branches, ended, strict=True) if not end][: self.beams]
        full = len(self.finished) == self.beams
        improves = bool(going) and going[0].score / length**self.length_penalty > self.finished[-1][0] if full else True
        self.over = not going or not improves
        return going


def inherit(branches: list[Branch]) -> tuple[list[Branch | None], list[tuple[int, int]]]:
    """For each place its beam, and the copies (from, to) of what the cache holds: a first child stays where it is."""
    places: list[Branch | None] = [None] * len(branches)
    others = []
    for branch in branches:
        if places[branch.parent] is None:
            places[branch.parent] = branch
        else:
            others.append(branch)
    free = [place for place, branch in enumerate(places) if branch is None]
    for place, branch in zip(free, others, strict=True):
        places[place] = branch
    return places, [(branch.parent, place) for place, branch in zip(free, others, strict=True)]
