"""One rank's part of generating: arrivals in, a pass of the model, a token of each row out. The same on all ranks.

No text and no sockets: tokens in, tokens out. scheduler.py says who is in a pass, sampling.py and beams.py which token
is next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.beams import Branch, Search, inherit
from heavylift_runtime.native.memory import Caches
from heavylift_runtime.native.news import Arrival, News
from heavylift_runtime.native.passes import apart, together
from heavylift_runtime.native.sampling import Chosen, choose, is_plain, penalized
from heavylift_runtime.native.scheduler import Plan, Scheduler
from heavylift_runtime.native.sequence import Sequence

TOKENS = 256
"""In one pass, about: the longest that a running row waits for others' prompts."""
LONGEST = 2048
"""Tokens of a source, and of an answer, where nothing says more; an encoder takes memory with the first's square."""
FURTHEST = 32768
"""Tokens of a text where nothing says more; they take address space for every slot, and memory once they are there."""
FULL = "memory ran out while this request was computed; send it again, or send less at once"


@dataclass(frozen=True)
class Limits:
    """The most tokens of a prompt, of an answer, and, where one continues the other, of both together."""

    prompt: int
    answer: int
    together: int | None

    @classmethod
    def of(cls, model: Model, longest: int | None) -> Limits:
        """What a model can read, or less where so many tokens, `longest`, are wanted at most."""
        if model.encodes:
            most = LONGEST if longest is None else longest
            return cls(most, most, None)
        most = min(FURTHEST if each is None else each for each in (model.positions, longest))
        return cls(most, most, most)


@dataclass(frozen=True)
class Progress:
    """What a step brought for a sequence."""

    sequence: Sequence
    chosen: tuple[Chosen, ...]
    finish_reason: str | None = None
    error: tuple[int, str] | None = None


class Core:
    """The model, its caches, and the sequences that run."""

    def __init__(
        self,
        model: Model,
        start: int,
        ends: Collection[int],
        slots: int,
        budget: int,
        limits: Limits,
        *,
        tokens: int = TOKENS,
        invariant: bool = False,
        alone: bool = True,
    ) -> None:
        """`budget`: bytes of cache; `alone`: there is one rank.

        `invariant`: a request's numbers depend on no other's, bit for bit.
        """
        self._model, self._start, self._ends, self._alone = model, start, frozenset(ends), alone
        self.limits = limits
        self._caches = Caches(model.stores(slots, limits.prompt, limits.together or limits.answer))
        self.scheduler = Scheduler(self._caches, slots, tokens, budget, fixed=invariant)
        self._passes = apart if invariant else together
        self._arrived = 0
        self._searches: dict[int, Search] = {}

    @property
    def busy(self) -> bool:
        return self.scheduler.busy

    @property
    def words(self) -> int:
        """Tokens that the model knows."""
        return self._model.vocabulary.size

    def sequence(self, arrival: Arrival) -> Sequence:
        """A request at its beginning."""
        self._arrived += 1
        source, text = (arrival.prompt, [self._start]) if self._model.encodes else ((), list(arrival.prompt))
        how = arrival.sampling
        return Sequence(arrival.key, source, text, len(text), how, is_plain(how), arrival.seed, self._arrived)

    def step(self, news: News) -> list[Progress]:
        """One pass; empty when nothing runs, or when only parts of prompts were read."""
        for key in news.gone:
            self.scheduler.cancel(key)
            self._searches.pop(key, None)
        for arrival in news.arrived:
            self.scheduler.add(self.sequence(arrival))
        plan = self.scheduler.plan()
        if not plan.rows and not plan.chunks:
            return []
        try:
            wanting, scores = self._compute(plan)
        except (MemoryError, RuntimeError) as error:
            if not self._alone or not _is_memory(error):
                raise  # other ranks wait in the middle of a pass
            return [self._refuse(plan)]
        for sequence, count in [*((row, 1) for row in plan.rows), *plan.chunks]:
            sequence.cached += count
        return self._advance(wanting, scores) if wanting else []

    def _compute(self, plan: Plan) -> tuple[list[Sequence], Tensor]:
        """Whose next tokens are to be chosen, and this rank's part of their logits."""
        vocabulary = self._model.vocabulary
        wanting, scores = [], []
        for each in self._passes(plan, encodes=self._model.encodes):
            hidden = self._model.forward(each.batch, self._caches.stores)
            if not each.wanting:
                continue
            part = vocabulary.scores(hidden)
            kept = [place for place, sequence in enumerate(each.wanting) if sequence is not None]
            wanting += [sequence for sequence in each.wanting if sequence is not None]
            scores.append(part if len(kept) == len(part) else part[kept])
        return wanting, scores[0] if len(scores) == 1 else torch.cat(scores) if scores else torch.empty(0)

    def _refuse(self, plan: Plan) -> Progress:
        """Memory ran out: what was to be computed is given up for one sequence, the others try again."""
        for sequence in plan.sources:
            sequence.encoded = False
        reading = [sequence for sequence, _ in plan.chunks] or plan.sources or plan.rows
        victim = reading[-1].leader
        self.scheduler.cancel(victim.key)
        self._searches.pop(victim.key, None)
        return Progress(victim, (), None, (507, FULL))

    def _advance(self, wanting: list[Sequence], scores: Tensor) -> list[Progress]:
        """Each row's next token, or each beam search's next beams."""
        special = [place for place, sequence in enumerate(wanting) if not sequence.plain]
        vocabulary = self._model.vocabulary
        plain = vocabulary.likeliest(scores).tolist() if len(special) < len(wanting) else []
        logits = dict(zip(special, vocabulary.logits(scores[special]), strict=True)) if special else {}
        progress: list[Progress] = []
        beams: dict[int, dict[int, Tensor]] = {}
        for place, sequence in enumerate(wanting):
            if sequence.width > 1:
                beams.setdefault(sequence.key, {})[id(sequence)] = logits[place]
            elif place in logits:
                progress.append(self._append(sequence, choose(logits[place], sequence, self._ends)))
            else:
                progress.append(self._append(sequence, Chosen(plain[place])))
        self.scheduler.finish([each.sequence for each in progress if each.finish_reason is not None])
        for leader in [each.leader for each in wanting if each.leader is each and each.width > 1]:
            if (found := self._spread(leader, beams[leader.key])) is not None:
                progress.append(found)
        return progress

    def _append(self, sequence: Sequence, chosen: Chosen) -> Progress:
        sequence.text.append(chosen.token)
        reason = None
        if chosen.token in self._ends and not sequence.sampling.ignore_eos:
            reason = "eos_token"
        elif sequence.generated == sequence.sampling.max_new_tokens:
            reason = "length"
        return Progress(sequence, (chosen,), reason)

    def _spread(self, leader: Sequence, logits: Mapping[int, Tensor]) -> Progress | None:
        """The next beams of one search, from the logits (V,) of its rows by their identity; its end, if this is it."""
        sampling, ends = leader.sampling, () if leader.sampling.ignore_eos else self._ends
        if not leader.beams:  # also after a search was preempted, and begins anew
            leader.beams = [leader]
            self._searches[leader.key] = Search(
                sampling.num_beams, sampling.length_penalty, sampling.max_new_tokens, ends
            )
        search, rows = self._searches[leader.key], leader.beams
        logprobs = torch.stack([penalized(torch.log_softmax(logits[id(row)], 0), row, ends) for row in rows])
        texts = [beam.text[beam.given :] for beam in rows]
        branches = search.advance(logprobs, [beam.score for beam in rows], texts)
        if search.over:
            tokens = search.finished[0][1]
            self.scheduler.finish(list(rows))
            del self._searches[leader.key]
            leader.text[leader.given :] = tokens
            reason = "eos_token" if tokens[-1] in ends else "length"
            return Progress(leader, tuple(map(Chosen, tokens)), reason)
        self._inherit(leader, branches)
        return None

    def _inherit(self, leader: Sequence, branches: list[Branch]) -> None:
        """The rows of a search become its next beams."""
        rows = leader.beams
        places, copies = inherit(branches)
        texts = [list(beam.text) for beam in rows]
        fresh = [
            replace(leader, text=list(leader.text), origin=leader, beams=[], slot=-1)
            for _ in range(len(branches) - len(rows))
        ]
        rows += fresh
        for row, branch in zip(rows, places, strict=True):
            assert branch is not None
            row.text, row.score = [*texts[branch.parent], branch.token], branch.score
        if fresh:
            self.scheduler.fork(leader, fresh)
        if copies:
            sources, targets = ([rows[place].slot for place in side] for side in zip(*copies, strict=True))
            self._caches.copy(leader, sources, targets)


def _is_memory(error: Exception) -> bool:
    """Python's and torch's words for memory that is not there."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)
