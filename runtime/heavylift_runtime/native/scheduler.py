"""Who is in the next pass: a token of every running row, and portions of waiting prompts up to a number of tokens.

No torch, and not the pass itself. Every rank runs one on the same arrivals and takes the same decisions. Prompts are
split so that each pass has about as much to do (DeepSpeed-FastGen's Dynamic SplitFuse, Holmes et al. 2024). An
encoder's source, of which each token sees all others, is split by the encoder's layers instead. Prompts are served in
the order of their arrival, and nobody overtakes. Memory is given out by what a row holds, not by what it may
come to hold: when it runs out, the youngest goes back into the line, and is read again later with all it generated.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from heavylift_runtime.native.sequence import Sequence

AHEAD = 32
"""Tokens that every running row can still grow by when another is let in."""


class Memory(Protocol):
    """The caches, by slot."""

    def of(self, source: int, text: int) -> int:
        """Bytes that a row of so many tokens takes."""

    def move(self, sequence: Sequence, slot: int) -> None:
        """Takes what the cache holds for a sequence into another slot; its own is free afterwards."""

    def drop(self, slot: int) -> None:
        """Forgets what a slot holds."""


@dataclass(frozen=True)
class Portion:
    """Of the encoder's layers the `part`-th of `parts`, through which a source goes next."""

    sequence: Sequence
    part: int = 0
    parts: int = 1

    @property
    def last(self) -> bool:
        """Then it is read."""
        return self.part == self.parts - 1

    @property
    def tokens(self) -> int:
        """As much to do as so many tokens are through all layers."""
        return -(-len(self.sequence.source) // self.parts)


@dataclass
class Plan:
    """One pass."""

    rows: list[Sequence] = field(default_factory=list)
    """In the slots from 0 on; each reads one token."""
    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    """And the next so many tokens of these."""
    sources: list[Portion] = field(default_factory=list)
    """What the encoder reads first."""


class Scheduler:
    """The line, and the rows that run."""

    def __init__(
        self, memory: Memory, slots: int, tokens: int, budget: int, *, fixed: bool = False, depth: int = 1
    ) -> None:
        """At most `slots` rows, about `tokens` tokens in a pass, `budget` bytes of cache.

        `fixed`: prompts are cut at multiples of `tokens` only, and what was generated is read again token by token.
        `depth`: the most portions of a source: the encoder's layers.
        """
        self._memory, self._slots, self._tokens, self._budget, self._fixed = memory, slots, tokens, budget, fixed
        self._depth = max(1, depth)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        """By slot: those that are ready, then at most one whose text is being read."""

    @property
    def busy(self) -> bool:
        return bool(self.running or self.waiting)

    @property
    def load(self) -> dict[str, float]:
        """Rows that run and that wait, and the share of the cache's bytes that the running ones hold."""
        use = self._held() / self._budget
        return {"running_rows": len(self.running), "waiting_rows": len(self.waiting), "kv_cache_use": use}

    def fits(self, sequence: Sequence) -> bool:
        """Whether it could ever run to its end."""
        return self.most(sequence) <= self._budget and sequence.width <= self._slots

    def most(self, sequence: Sequence) -> int:
        """Bytes of cache that it takes in the end."""
        # the last token is never read
        text = sequence.given + sequence.sampling.max_new_tokens - 1
        return self._memory.of(len(sequence.source), text) * sequence.width

    def add(self, sequence: Sequence) -> None:
        """At the end of the line."""
        self.waiting.append(sequence)

    def cancel(self, key: int) -> None:
        """Forgets a sequence wherever it is."""
        for sequence in [each for each in (*self.waiting, *self.running) if each.key == key]:
            if sequence.slot < 0:
                self.waiting.remove(sequence)
            else:
                self._leave(sequence)

    def finish(self, ended: list[Sequence]) -> None:
        """These leave their slots."""
        # from the last slot on, so that few of those that stay are moved
        for sequence in sorted(ended, key=lambda each: -each.slot):
            self._leave(sequence)

    def clear(self) -> None:
        """Forgets all."""
        for sequence in self.running:
            self._memory.drop(sequence.slot)
        self.running.clear()
        self.waiting.clear()

    def preempt(self) -> Sequence:
        """The youngest that runs goes back to the head of the line."""
        youngest = max((each for each in self.running), key=lambda each: each.number).leader
        self.finish(list(youngest.beams) or [youngest])
        youngest.forget()
        self.waiting.appendleft(youngest)
        return youngest

    def ready(self, sequence: Sequence) -> bool:
        """It reads one token in the next pass."""
        if self._fixed:
            return sequence.encoded and (sequence.given == 1 or sequence.cached >= sequence.given)
        return sequence.encoded and sequence.pending <= 1

    def plan(self) -> Plan:
        """The next pass; who is to leave must have left."""
        while self._held() > self._budget and len({each.key for each in self.running}) > 1:
            self.preempt()
        plan = Plan(self.running[: self._leading()])
        left = max(self._tokens - len(plan.rows), self._tokens // 4)
        begun = False
        for sequence in self.running[len(plan.rows) :]:
            left -= self._read(sequence, plan, left)
            begun = True
        while self.waiting and left > 0 and (not self.running or self.running[-1].encoded):
            sequence = self.waiting[0]
            if self._taken() + sequence.width > self._slots:
                break
            # with room to grow, or it would soon be pushed out again, and read again
            if self.running and sum(map(self._soon, [*self.running, sequence])) > self._budget:
                break
            if begun and (self._portion(sequence).tokens if sequence.source else self._first(sequence)) > left:
                break
            if self._fixed and sequence.given == 1 and len(plan.rows) < len(self.running):
                break  # it is read as a row, and rows come first
            self.waiting.popleft()
            sequence.slot = len(self.running)
            self.running.append(sequence)
            left -= self._read(sequence, plan, left)
            begun = True
        return plan

    def fork(self, sequence: Sequence, others: list[Sequence]) -> None:
        """Rows beside a running one, empty, in slots behind all that are ready."""
        place = self._leading()
        for reading in reversed(self.running[place:]):
            self._memory.move(reading, reading.slot + len(others))
            reading.slot += len(others)
        self.running[place:place] = others
        for slot, other in enumerate(others, place):
            other.slot = slot

    def _first(self, sequence: Sequence) -> int:
        """The least of a text that is read in one pass."""
        if not self._fixed:
            return 1
        border = min((sequence.cached // self._tokens + 1) * self._tokens, sequence.given)
        return border - sequence.cached

    def _portion(self, sequence: Sequence) -> Portion:
        """What comes next of its source."""
        return Portion(sequence, sequence.parts, max(1, min(self._depth, -(-len(sequence.source) // self._tokens))))

    def _read(self, sequence: Sequence, plan: Plan, left: int) -> int:
        """Its part in the pass; returns how many tokens that is."""
        count = 0
        if not sequence.encoded:
            portion = self._portion(sequence)
            if sequence.source:
                plan.sources.append(portion)
                sequence.parts, count = sequence.parts + 1, portion.tokens
            sequence.encoded = portion.last
            if not sequence.encoded:
                return count
        if self.ready(sequence) and len(plan.rows) == sequence.slot:
            plan.rows.append(sequence)
            return count + 1
        part = self._first(sequence) if self._fixed else max(1, min(sequence.pending, left - count))
        plan.chunks.append((sequence, part))
        return count + part

    def _leading(self) -> int:
        """How many rows are ready, from slot 0 on."""
        return next((slot for slot, each in enumerate(self.running) if not self.ready(each)), len(self.running))

    def _held(self) -> int:
        return sum(self._memory.of(len(each.source), len(each.text)) for each in self.running)

    def _soon(self, sequence: Sequence) -> int:
        """Bytes of cache for a row, and what it has yet to spread to, some tokens later."""
        last = sequence.given + sequence.sampling.max_new_tokens - 1
        rows = sequence.width if sequence.leader is sequence and not sequence.beams else 1
        return self._memory.of(len(sequence.source), min(len(sequence.text) + AHEAD, last)) * rows

    def _taken(self) -> int:
        """Slots that are taken, or will be once beam searches have spread."""
        return sum(1 if each.leader.beams else each.width for each in self.running)

    def _leave(self, sequence: Sequence) -> None:
        hole, ready = sequence.slot, self._leading()
        self._memory.drop(hole)
        # the last of those that are ready takes the place, and the one whose text is being read follows
        for slot in dict.fromkeys((ready - 1, len(self.running) - 1)):
            if slot > hole:
                mover = self.running[slot]
                self._memory.move(mover, hole)
                self.running[hole], mover.slot, hole = mover, hole, slot
        self.running.pop()
        sequence.slot = -1
