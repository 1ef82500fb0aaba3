"""A plan as tensors: what the scheduler decided, as batches for the model, and who gets a token from each.

Not the decision (scheduler.py), not the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heavylift_runtime.native.batch import Batch, Chunk, Source
from heavylift_runtime.native.scheduler import Plan
from heavylift_runtime.native.sequence import Sequence

TILE = 4
"""Rows that go through the model at once, always, where nobody's numbers may depend on their company."""


@dataclass(frozen=True)
class Pass:
    """A batch, and for each hidden state that comes out of it, whose next token it leads to; None: nobody's."""

    batch: Batch
    wanting: list[Sequence | None]

    @property
    def kept(self) -> list[int]:
        """Which of the hidden states are somebody's."""
        return [place for place, sequence in enumerate(self.wanting) if sequence is not None]


@dataclass(frozen=True)
class Reading:
    """Sources that the encoder reads at once, or one that goes through a portion of its layers."""

    sources: tuple[Source, ...]
    part: int = 0
    parts: int = 1

    @property
    def last(self) -> bool:
        """Then they are read."""
        return self.part == self.parts - 1

    @property
    def tokens(self) -> int:
        """All their tokens together."""
        return sum(len(source.tokens) for source in self.sources)


def readings(plan: Plan, *, apart: bool) -> list[Reading]:
    """What the encoder is to read: all at once but for those in portions, or each source alone."""
    found, whole = [], []
    for portion in plan.sources:
        source = Source(portion.sequence.slot, portion.sequence.source)
        if apart or portion.parts > 1:
            found.append(Reading((source,), portion.part, portion.parts))
        else:
            whole.append(source)
    return [*found, Reading(tuple(whole))] if whole else found


def together(plan: Plan, *, encodes: bool) -> Iterator[Pass]:
    """Everything in one pass, without padding."""
    texts = [_text(sequence, count) for sequence, count in plan.chunks]
    ends = [sequence.pending == count for sequence, count in plan.chunks]
    batch = Batch.of(
        [_row(sequence) for sequence in plan.rows],
        texts,
        ends=ends,
        read=[len(sequence.source) for sequence in plan.rows] if encodes else (),
    )
    finished: list[Sequence | None] = [each for (each, _), end in zip(plan.chunks, ends, strict=True) if end]
    yield Pass(batch, [*plan.rows, *finished])


def apart(plan: Plan, *, encodes: bool) -> Iterator[Pass]:
    """Always the same number of rows in a pass, and each portion of a prompt alone: the numbers depend on no other."""
    for first in range(0, len(plan.rows), TILE):
        rows = plan.rows[first : first + TILE]
        batch = Batch.of(
            [_row(sequence) for sequence in rows],
            first=first,
            padding=TILE - len(rows),
            read=[len(sequence.source) for sequence in rows] if encodes else (),
            apart=True,
        )
        yield Pass(batch, [sequence if sequence.pending == 1 else None for sequence in rows])
    for sequence, count in plan.chunks:
        end = sequence.pending == count
        batch = Batch.of([], [_text(sequence, count)], ends=[end], apart=True)
        yield Pass(batch, [sequence] if end else [])


def _row(sequence: Sequence) -> tuple[int, int]:
    return sequence.text[sequence.cached], sequence.cached


def _text(sequence: Sequence, count: int) -> tuple[Chunk, list[int]]:
    chunk = Chunk(sequence.slot, sequence.cached, count, len(sequence.source))
    return chunk, sequence.text[sequence.cached : sequence.cached + count]
