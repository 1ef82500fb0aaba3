"""A model of transformers that several ranks hold together, in step. Not how it was split: accelerate.py, deepspeed.py.

Every rank takes every step; rank 0 tells the others who has arrived and who has gone, and chooses the tokens.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from heavylift_runtime.engines.choice import Choice
from heavylift_runtime.engines.engine import Piece, Request
from heavylift_runtime.engines.generation import Pick, Row, pick
from heavylift_runtime.engines.writer import Writer
from heavylift_runtime.errors import PromptError, RuntimeFault
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.news import Arrival, News, hear, tell


def chosen_by_rank_0(group: Group) -> Pick:
    """The same tokens on every rank, whatever the last bits of their scores are."""
    if group.world == 1:
        return pick

    def choose(scores: Tensor, rows: Sequence[Row], ends: frozenset[int]) -> list[Choice | None]:
        choices: list[Choice | None] = [None] * len(rows)
        if group.rank == 0:
            choices = pick(scores, rows, ends)
        tokens = group.all_reduce(torch.tensor([0 if each is None else each.token for each in choices])).tolist()
        if group.rank == 0:
            return choices
        return [None if row.ended else Choice(token, None) for row, token in zip(rows, tokens, strict=True)]

    return choose


class Ranked:
    """One rank of a split model."""

    def __init__(self, name: str, writer: Writer, group: Group) -> None:
        """`name`: the engine's; `writer`: with `chosen_by_rank_0` of the group."""
        self._name, self._writer, self._group = name, writer, group
        self._arrived: list[Arrival] = []
        self._gone: list[int] = []
        self._broken: str | None = None

    def add(self, key: int, request: Request) -> None:
        """Queue a request; PromptError where the model cannot answer it."""
        sampling = request.sampling
        if sampling.num_beams > 1:
            world = self._group.world
            raise PromptError(
                f"engine {self._name} has no beam search on {world} ranks: got num_beams={sampling.num_beams}"
            )
        prompt = tuple(self._writer.tokens(request))
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        self._arrived.append(Arrival(key, prompt, sampling, seed))

    def cancel(self, key: int) -> None:
        """Forget a request; the other ranks hear of it with the next step."""
        self._arrived = [each for each in self._arrived if each.key != key]
        if self._writer.has(key):
            self._gone.append(key)

    def step(self) -> list[Piece]:
        """One step of all that runs; RuntimeFault where the ranks may be out of step."""
        if self._broken is not None:
            raise RuntimeFault(f"the ranks are out of step since {self._broken}; start the worker again")
        if not self.busy:
            return []
        news = News(tuple(self._arrived), tuple(self._gone))
        self._arrived, self._gone = [], []
        try:
            with torch.inference_mode():  # as in the generations' threads, with which the group shares its tensors
                tell(self._group, news, busy=self._writer.busy)
                return self._take(news)
        except RuntimeError as error:  # gloo's only type of error
            self._broken = str(error)
            raise RuntimeFault(f"the step failed: {error}") from error

    @property
    def busy(self) -> bool:
        """Something waits or runs, or the others have to hear of something."""
        return bool(self._writer.busy or self._arrived or self._gone)

    @property
    def capacity(self) -> int:
        """Requests that may run at once."""
        return self._writer.capacity

    def follow(self) -> None:
        """Take rank 0's steps until it closes; RuntimeFault where it is gone without a word."""
        try:
            with torch.inference_mode():
                while (news := hear(self._group, busy=self._writer.busy)) is not None:
                    self._take(news)
        except RuntimeError as error:
            raise RuntimeFault(f"rank {self._group.rank} stops, for another rank is gone: {error}") from error
        self._writer.close()
        self._group.close()

    def close(self) -> None:
        """Let the followers return; those that are gone already are no fault here."""
        if self._broken is None:
            with suppress(RuntimeError), torch.inference_mode():
                tell(self._group, None, busy=self._writer.busy)
        self._writer.close()
        self._group.close()

    def _take(self, news: News) -> list[Piece]:
        for key in news.gone:
            self._writer.cancel(key)
        for each in news.arrived:
            self._writer.add(each.key, Request(each.prompt, replace(each.sampling, seed=each.seed)))
        pieces = self._writer.step()
        failed = [piece.error for piece in pieces if piece.error is not None]
        if failed and self._group.world > 1:  # on one rank and perhaps not on the others
            self._broken = failed[0][1]
            raise RuntimeFault(f"the step failed on rank {self._group.rank}: {failed[0][1]}")
        return pieces
