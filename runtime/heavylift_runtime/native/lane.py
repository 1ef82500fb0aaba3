"""Sequences that take turns in the model: who is in the next pass, what came of the last one, and their caches.

Not the pass itself (core.py). There is one lane, or, in a pipeline, one for each stage: while one lane's pass is on
the first stage, another's is on the second. A lane has one pass on its way, for the next one needs its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heavylift_runtime.native.architectures import Model
from heavylift_runtime.native.beams import Branch, Search, inherit
from heavylift_runtime.native.drafts import Drafts
from heavylift_runtime.native.found import Found
from heavylift_runtime.native.memory import Caches
from heavylift_runtime.native.passes import Pass, Reading, apart, readings, together
from heavylift_runtime.native.sampling import NOTHING, Chosen, penalized, told
from heavylift_runtime.native.scheduler import Plan, Scheduler
from heavylift_runtime.native.sequence import Sequence
from heavylift_runtime.native.steps import Steps

NUMBERLESS = "the model computes no numbers for this prompt (NaN): its weights are damaged, or too large for 'dtype'"


@dataclass(frozen=True)
class Progress:
    """What a step brought for a sequence."""

    sequence: Sequence
    chosen: tuple[Chosen, ...]
    finish_reason: str | None = None
    error: tuple[int, str] | None = None


@dataclass(frozen=True)
class Flight:
    """A lane's way through all stages: with sources through the encoder, or with tokens through the decoder."""

    lane: Lane
    readings: tuple[Reading, ...] = ()
    passes: tuple[Pass, ...] = ()

    @property
    def wanting(self) -> list[Sequence]:
        """Whose next tokens it leads to."""
        return [sequence for each in self.passes for sequence in each.wanting if sequence is not None]

    @property
    def lengths(self) -> list[int]:
        """Rows of each of the tensors that stages hand on."""
        return [reading.tokens for reading in self.readings] or [len(each.batch.tokens) for each in self.passes]


class Lane:
    """A scheduler, its caches, and the beam searches among its sequences."""

    def __init__(
        self,
        model: Model,
        caches: Caches,
        scheduler: Scheduler,
        ends: Set[int],
        *,
        invariant: bool,
        steps: Steps | None = None,
        drafts: Drafts | None = None,
    ) -> None:
        """`ends`: tokens that end an answer; `invariant`: a request's numbers depend on no other's, bit for bit.

        `steps`: for passes without prompts; None: they go the way of all. `drafts`: what tokens are guessed with.
        """
        self.caches, self.scheduler, self.steps, self._drafts = caches, scheduler, steps, drafts
        self._model, self._ends, self._invariant = model, ends, invariant
        self.unread: Tensor | None = None
        """Hidden states of a source that is in the middle of the encoder."""
        self._plan: Plan | None = None
        self._gone: list[int] = []
        self._searches: dict[int, Search] = {}

    @property
    def load(self) -> int:
        """Sequences that run or wait."""
        return len(self.scheduler.running) + len(self.scheduler.waiting)

    def cancel(self, key: int) -> None:
        """Forgets a sequence, after the pass that is on its way."""
        if self._plan is not None:
            self._gone.append(key)
            return
        self.scheduler.cancel(key)
        self._searches.pop(key, None)

    def begin(self) -> Flight | None:
        """What is next; None where nothing runs. A plan with sources takes two flights, for rows look at them."""
        if self._plan is None:
            plan = self.scheduler.plan()
            if not plan.rows and not plan.chunks and not plan.sources:
                return None
            self._plan = plan
            if found := readings(plan, apart=self._invariant):
                return Flight(self, readings=tuple(found))
        if not self._plan.rows and not self._plan.chunks:
            self._settle()
            return None
        passes = (apart if self._invariant else together)(self._plan, encodes=self._model.encodes)
        if self._drafts is not None:
            passes = map(self._drafts, passes)
        return Flight(self, passes=tuple(passes))

    def end(self, wanting: list[Sequence], found: Found) -> list[Progress]:
        """The tokens that a flight led to are there."""
        assert self._plan is not None
        for sequence, count in [*((row, 1) for row in self._plan.rows), *self._plan.chunks]:
            sequence.cached += count
        progress = self._advance(wanting, found) if wanting else []
        self._settle()
        return progress

    def _settle(self) -> None:
        """A plan is done with; who was cancelled meanwhile goes."""
        self._plan = None
        if not self.scheduler.running or self.scheduler.running[-1].encoded:
            self.unread = None
        self._let_go()

    def _let_go(self) -> None:
        gone, self._gone = self._gone, []
        for key in gone:
            self.cancel(key)

    @property
    def victim(self) -> Sequence | None:
        """Whom what is to be computed now is given up for where it cannot be: who is read, or else the youngest."""
        if self._plan is None:
            return None
        unread = [portion.sequence for portion in self._plan.sources]
        reading = [sequence for sequence, _ in self._plan.chunks] or unread or self._plan.rows
        return reading[-1].leader

    def undo(self) -> None:
        """What was to be computed was not, and is planned anew."""
        plan, self._plan = self._plan, None
        for portion in () if plan is None else plan.sources:
            portion.sequence.encoded, portion.sequence.parts = False, 0
        for row in () if plan is None else plan.rows:
            row.guessed = []
        self.unread = None
        self._let_go()

    def clear(self) -> None:
        """Forgets all sequences, in whatever state."""
        self._plan, self.unread = None, None
        self._gone.clear()
        self._searches.clear()
        self.scheduler.clear()
        if self._drafts is not None:
            self._drafts.forget()

    def _advance(self, wanting: list[Sequence], found: Found) -> list[Progress]:
        """Each row's next token, or each beam search's next beams."""
        progress: list[Progress] = []
        beams: dict[int, dict[int, Tensor]] = {}
        rows: dict[int, tuple[Sequence, list[Chosen]]] = {}
        for place, sequence in enumerate(wanting):
            if sequence.width > 1:
                beams.setdefault(sequence.key, {})[id(sequence)] = found.logits[place]
            else:
                rows.setdefault(id(sequence), (sequence, []))[1].append(found.chosen[place])
        progress += [self._append(*row) for row in rows.values()]
        over = [each for each in progress if each.finish_reason is not None or each.error is not None]
        self.scheduler.finish([each.sequence for each in over])
        for leader in [each.leader for each in wanting if each.leader is each and each.width > 1]:
            if (spread := self._spread(leader, beams[leader.key])) is not None:
                progress.append(spread)
        return progress

    def _append(self, sequence: Sequence, choices: list[Chosen]) -> Progress:
        """The next token, and those that follow guesses as long as these were right."""
        guessed, reason = sequence.guessed, None
        for place, chosen in enumerate(choices):
            if chosen.token == NOTHING:
                return Progress(sequence, (), None, (424, NUMBERLESS))
            sequence.text.append(chosen.token)
            sequence.cached += place > 0
            if chosen.token in self._ends and not sequence.sampling.ignore_eos:
                reason = "eos_token"
            elif sequence.generated == sequence.sampling.max_new_tokens:
                reason = "length"
            if reason is not None or guessed[place : place + 1] != [chosen.token]:
                break
        said = choices[: place + 1]
        if self._drafts is not None:
            self._drafts.learn(sequence, [chosen.token for chosen in said], over=reason is not None)
        return Progress(sequence, tuple(said), reason)

    def _spread(self, leader: Sequence, logits: Mapping[int, Tensor]) -> Progress | None:
        """The next beams of one search, from the logits (V,) of its rows by their identity; its end, if this is it."""
        sampling, ends = leader.sampling, () if leader.sampling.ignore_eos else self._ends
        if not leader.beams:  # also after a search was preempted, and begins anew
            leader.beams = [leader]
            self._searches[leader.key] = Search(
                sampling.num_beams, sampling.length_penalty, sampling.max_new_tokens, ends
            )
        search, rows = self._searches[leader.key], leader.beams
        if any(bool(logits[id(row)].isnan().any()) for row in rows):
            self.scheduler.finish(list(rows))
            del self._searches[leader.key]
            return Progress(leader, (), None, (424, NUMBERLESS))
        own = [torch.log_softmax(logits[id(row)], 0) for row in rows]
        logprobs = torch.stack([penalized(each, row, ends) for each, row in zip(own, rows, strict=True)])

        def say(parent: int, token: int) -> Chosen:
            return Chosen(token) if sampling.logprobs is None else told(token, own[parent], sampling.logprobs)

        branches = search.advance(logprobs, [beam.score for beam in rows], [beam.said for beam in rows], say)
        if search.over:
            said = search.finished[min(sampling.beam, len(search.finished) - 1)][1]
            self.scheduler.finish(list(rows))
            del self._searches[leader.key]
            leader.text[leader.given :] = [chosen.token for chosen in said]
            return Progress(leader, tuple(said), "eos_token" if said[-1].token in ends else "length")
        self._inherit(leader, branches, say)
        return None

    def _inherit(self, leader: Sequence, branches: list[Branch], say: Callable[[int, int], Chosen]) -> None:
        """The rows of a search become its next beams."""
        rows = leader.beams
        places, copies = inherit(branches)
        before = [(list(beam.text), list(beam.said)) for beam in rows]
        fresh = [
            replace(leader, text=list(leader.text), origin=leader, beams=[], slot=-1)
            for _ in range(len(branches) - len(rows))
        ]
        rows += fresh
        for row, branch in zip(rows, places, strict=True):
            assert branch is not None
            text, said = before[branch.parent]
            row.text, row.score = [*text, branch.token], branch.score
            row.said = [*said, say(branch.parent, branch.token)]
        if fresh:
            self.scheduler.fork(leader, fresh)
        if copies:
            sources, targets = ([rows[place].slot for place in side] for side in zip(*copies, strict=True))
            self.caches.copy(leader, sources, targets)
