"""One rank's part of generating: arrivals in, a pass of the model, a token of each row out. The same on all ranks.

No text and no sockets: tokens in, tokens out. scheduler.py says who is in a pass, sampling.py which token is next.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.batch import Batch, Chunk, Source
from heavylift_runtime.native.memory import Caches
from heavylift_runtime.native.news import Arrival, News
from heavylift_runtime.native.scheduler import Plan, Scheduler
from heavylift_runtime.native.sequence import Sequence

TOKENS = 256
"""In one pass, about: the longest that a running row waits for others' prompts."""


@dataclass(frozen=True)
class Progress:
    """One more token of a sequence."""

    sequence: Sequence
    token: int
    finish_reason: str | None


class Core:
    """The model, its caches, and the sequences that run."""

    def __init__(
        self,
        model: Model,
        start: int,
        ends: Collection[int],
        slots: int,
        budget: int,
        longest: tuple[int, int],
        tokens: int = TOKENS,
    ) -> None:
        """`budget`: bytes of cache; `longest`: tokens of a prompt, and of an answer."""
        self._model, self._start, self._ends = model, start, frozenset(ends)
        prompt, answer = longest
        text = 1 + answer if model.encodes else min(prompt + answer, model.positions or prompt + answer)
        self._caches = Caches(model.stores(slots, prompt, text))
        self.scheduler = Scheduler(self._caches, slots, tokens, budget)
        self._arrived = 0

    @property
    def busy(self) -> bool:
        return self.scheduler.busy

    @property
    def words(self) -> int:
        """Tokens that the model knows."""
        return self._model.vocabulary.size

    @property
    def positions(self) -> int | None:
        """The most tokens of prompt and answer together; None: as many as the engine reads."""
        return self._model.positions

    def sequence(self, arrival: Arrival) -> Sequence:
        """A request at its beginning."""
        self._arrived += 1
        source, text = (arrival.prompt, [self._start]) if self._model.encodes else ((), list(arrival.prompt))
        return Sequence(arrival.key, source, text, len(text), arrival.sampling, arrival.seed, self._arrived)

    def step(self, news: News) -> list[Progress]:
        """One pass; empty when nothing runs, or when only parts of prompts were read."""
        for key in news.gone:
            self.scheduler.cancel(key)
        for arrival in news.arrived:
            self.scheduler.add(self.sequence(arrival))
        plan = self.scheduler.plan()
        if not plan.rows and not plan.chunks:
            return []
        batch, wanting = self._batch(plan)
        hidden = self._model.forward(batch, self._caches.stores)
        for sequence in plan.rows:
            sequence.cached += 1
        for sequence, count in plan.chunks:
            sequence.cached += count
        if not wanting:
            return []
        vocabulary = self._model.vocabulary
        tokens = vocabulary.likeliest(vocabulary.scores(hidden)).tolist()
        progress = [self._advance(sequence, token) for sequence, token in zip(wanting, tokens, strict=True)]
        self.scheduler.finish([each.sequence for each in progress if each.finish_reason is not None])
        return progress

    def _batch(self, plan: Plan) -> tuple[Batch, list[Sequence]]:
        """The pass as tensors, and whose next tokens come out of it."""
        texts = [
            (
                Chunk(sequence.slot, sequence.cached, count, len(sequence.source)),
                sequence.text[sequence.cached : sequence.cached + count],
            )
            for sequence, count in plan.chunks
        ]
        ends = [sequence.pending == count for sequence, count in plan.chunks]
        batch = Batch.of(
            [(sequence.text[sequence.cached], sequence.cached) for sequence in plan.rows],
            texts,
            ends=ends,
            sources=[Source(sequence.slot, sequence.source) for sequence in plan.sources],
            read=[len(sequence.source) for sequence in plan.rows] if self._model.encodes else (),
        )
        return batch, plan.rows + [sequence for (sequence, _), end in zip(plan.chunks, ends, strict=True) if end]

    def _advance(self, sequence: Sequence, token: int) -> Progress:
        sequence.text.append(token)
        reason = None
        if token in self._ends and not sequence.sampling.ignore_eos:
            reason = "eos_token"
        elif sequence.generated == sequence.sampling.max_new_tokens:
            reason = "length"
        return Progress(sequence, token, reason)
