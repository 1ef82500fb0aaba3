"""One copy of a model under continuous batching: admission, chunked prefill, paged cache, preemption.

Not the routing between copies (endpoint.py), nor an iteration's time. The rules are vLLM's: decodes first, then chunks
of prompts in order of arrival; where the cache is full, the last sequence gives its blocks back and is read again.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field, replace

from heavylift.plan.simulate.outcome import Request
from heavylift.plan.simulate.steptime import StepTime, stretch

BLOCK = 16  # tokens; vLLM's default
WATERMARK = 0.01  # of the blocks, kept free at admission so that it does not preempt at once; vLLM's default


@dataclass(frozen=True)
class Limits:
    """Of one copy: tokens in its cache, sequences that run at once, tokens of one iteration.

    Without `joins` an engine answers one batch after another: no row joins, and all are answered with the longest.
    """

    cache_tokens: int
    rows: int = 256
    batch_tokens: int = 2048
    joins: bool = True

    @property
    def blocks(self) -> int:
        return self.cache_tokens // BLOCK

    def holds(self, tokens: int) -> bool:
        """Whether one sequence of so many tokens can ever run."""
        return _blocks(tokens) <= self.blocks


@dataclass
class Sequence:
    """A request on its way: `read` of `prompt` tokens are in the cache; `made` tokens are generated."""

    request: Request
    prompt: int
    number: int  # of admission, so that ties are broken the same way at every run
    answer: int  # tokens that it makes, those that only fill up its batch included
    made: int = 0
    read: int = 0
    finish: int = 0  # the number of the decode step that makes its last token
    gone: bool = False  # finished or preempted: what heap and stack still hold is stale


@dataclass
class Copy:
    """`now` is the end of its last iteration; `steps` counts decode steps since the beginning."""

    time: StepTime
    limits: Limits
    now: float = 0.0
    steps: int = 0
    busy: float = 0.0
    row_seconds: float = 0.0
    preemptions: int = 0
    prefilled: int = 0
    most_blocks: int = 0
    assigned: int = 0
    finished: int = 0
    _just_finished: int = 0
    _waiting: deque[Sequence] = field(default_factory=deque)
    _reading: deque[Sequence] = field(default_factory=deque)
    _decoding: list[tuple[int, int, Sequence]] = field(default_factory=list)  # a heap by the last step
    _order: list[Sequence] = field(default_factory=list)  # running, by admission
    _rows: int = 0
    _context: int = 0
    _used: int = 0
    _filled: list[int] = field(default_factory=lambda: [0] * BLOCK)  # decoding rows by (tokens - steps) mod BLOCK

    def take(self, request: Request) -> None:
        """A request that arrives now or while an iteration runs. Asserts that the cache can hold it."""
        assert self.limits.holds(request.input_tokens + request.output_tokens), "refused before the simulation"
        self.now = max(self.now, request.arrival_s)
        self.assigned += 1
        self._waiting.append(Sequence(request, request.input_tokens, self.assigned, request.output_tokens))

    def outstanding(self, moment: float) -> int:
        """Requests taken and not finished at a moment that `advance` has reached."""
        return self.assigned - self.finished + (self._just_finished if self.now > moment else 0)

    def advance(self, until: float) -> None:
        """Run every iteration that begins before `until`."""
        while self.now < until and (self._waiting or self._reading or self._rows):
            self._admit()
            if self._reading:
                self._mixed()
            else:
                self._stretch(until)

    def _admit(self) -> None:
        """Waiting sequences, in order, while rows, this iteration's tokens and the cache allow."""
        budget = self.limits.batch_tokens - self._rows - sum(each.prompt - each.read for each in self._reading)
        running = self._rows + len(self._reading)
        if running and not self.limits.joins:
            return
        while self._waiting and running < self.limits.rows and budget > 0:
            first = self._waiting[0]
            needed = _blocks(first.prompt + 1)
            spare = max(self._wanted(1), int(WATERMARK * self.limits.blocks))
            if running and self._used + needed + spare > self.limits.blocks:
                return
            self._waiting.popleft()
            first.request.started(self.now)
            self._used += needed
            self._reading.append(first)
            self._order.append(first)
            running += 1
            budget -= first.prompt
        if not self.limits.joins:
            longest = max(each.answer for each in self._reading)
            for each in self._reading:
                each.answer = longest

    def _mixed(self) -> None:
        """One iteration with chunks of prompts; those that are read to their end make their first token."""
        self._room_for(1)
        rows, budget = self._rows, self.limits.batch_tokens - self._rows
        added, seen, chunks, done = 0.0, 0, 0, []
        for sequence in self._reading:
            end = min(sequence.prompt, sequence.read + max(budget, 1 if not chunks and not rows else 0))
            if end == sequence.read:
                break
            added += self.time.prefill(sequence.read, end)
            budget -= end - sequence.read
            self.prefilled += end - sequence.read
            seen, chunks, sequence.read = seen + end, chunks + 1, end
            if end == sequence.prompt:
                done.append(sequence)
        seconds = added + self.time.decode(max(1, rows + chunks), self._context + seen)
        self._passed(seconds, 1, rows + len(self._reading))
        for sequence in done:
            self._reading.popleft()
            self._first(sequence)
        self._finish()

    def _first(self, sequence: Sequence) -> None:
        """A prompt that was just read has made a token, and decodes from the next iteration on."""
        sequence.made += 1
        sequence.request.first_token(self.now + self.time.outside(sequence.request.input_tokens))
        left = sequence.answer - sequence.made
        sequence.finish = self.steps + left
        tokens = sequence.prompt + 1
        self._rows += 1
        self._context += tokens
        self._filled[(tokens - self.steps) % BLOCK] += 1
        heapq.heappush(self._decoding, (sequence.finish, sequence.number, sequence))

    def _stretch(self, until: float) -> None:
        """Decode steps alone, until a sequence ends, the cache is full, or `until`."""
        self._room_for(1)
        self._stale()
        assert self._rows, "a copy with work neither reads nor decodes"
        steps = min(self._decoding[0][0] - self.steps, self._steps_with_room())
        count, seconds = stretch(self.time, self._rows, self._context, steps, until - self.now)
        self._passed(seconds, count, self._rows)
        self._finish()

    def _passed(self, seconds: float, steps: int, rows: int) -> None:
        """Time goes by; every decoding row gets a token in each step, and a block where its last one is full."""
        self._used += self._wanted(steps)
        self._context += steps * self._rows
        self.steps += steps
        self.now += seconds
        self.busy += seconds
        self.row_seconds += rows * seconds
        self.most_blocks = max(self.most_blocks, self._used)
        self._just_finished = 0

    def _finish(self) -> None:
        self._stale()
        while self._decoding and self._decoding[0][0] <= self.steps:
            sequence = heapq.heappop(self._decoding)[2]
            self._leave(sequence, self._tokens(sequence))
            sequence.request.ended(self.now + self.time.outside(sequence.request.input_tokens))
            self.finished += 1
            self._just_finished += 1
            self._stale()

    def _leave(self, sequence: Sequence, tokens: int) -> None:
        """Of a decoding sequence: its row and its blocks."""
        sequence.gone = True
        self._rows -= 1
        self._context -= tokens
        self._used -= _blocks(tokens)
        self._filled[(tokens - self.steps) % BLOCK] -= 1

    def _tokens(self, sequence: Sequence) -> int:
        """In the cache, of a decoding sequence."""
        return sequence.request.input_tokens + sequence.answer - (sequence.finish - self.steps)

    def _wanted(self, steps: int) -> int:
        """Blocks that so many decode steps take: a row needs one where its tokens are a multiple of BLOCK."""
        rounds, rest = divmod(steps, BLOCK)
        return rounds * self._rows + sum(self._filled[-(self.steps + step) % BLOCK] for step in range(rest))

    def _steps_with_room(self) -> int:
        """Decode steps that the free blocks allow; at least one, for which _room_for has made room."""
        free = self.limits.blocks - self._used
        steps = BLOCK * (free // self._rows)
        while self._wanted(steps + 1) <= free:
            steps += 1
        return max(steps, 1)

    def _room_for(self, steps: int) -> None:
        """Preempt the last sequences until the others have blocks for so many decode steps."""
        while self._rows and self._used + self._wanted(steps) > self.limits.blocks:
            while self._order[-1].gone:
                self._order.pop()
            if self._rows + len(self._reading) == 1:
                break  # alone, it fits: that was asserted when it came
            self._preempt(self._order.pop())

    def _preempt(self, sequence: Sequence) -> None:
        """Give its blocks back; prompt and what it has made are read again when it comes back, before all others."""
        self.preemptions += 1
        if sequence.read < sequence.prompt:
            self._reading.remove(sequence)
            self._used -= _blocks(sequence.prompt + 1)
            again = replace(sequence, read=0)
            sequence.gone = True
        else:
            tokens = self._tokens(sequence)
            self._leave(sequence, tokens)
            again = replace(sequence, prompt=tokens, made=tokens - sequence.request.input_tokens, read=0, gone=False)
        self._waiting.appendleft(again)

    def _stale(self) -> None:
        while self._decoding and self._decoding[0][2].gone:
            heapq.heappop(self._decoding)


def _blocks(tokens: int) -> int:
    return math.ceil(tokens / BLOCK)
