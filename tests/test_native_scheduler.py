"""Who is in the next pass: order, slots, budgets of tokens and of memory, on made-up sequences and without a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift_runtime.engines.engine import Sampling
from heavylift_runtime.native.scheduler import Plan, Scheduler
from heavylift_runtime.native.sequence import Sequence


@dataclass
class Shelves:
    """A cache that remembers whose tokens lie in which slot; a token takes one byte."""

    held: dict[int, int] = field(default_factory=dict)

    def of(self, source: int, text: int) -> int:
        return source + text

    def move(self, sequence: Sequence, slot: int) -> None:
        assert slot not in self.held, "somebody lies there"
        self.held[slot] = self.held.pop(sequence.slot)

    def drop(self, slot: int) -> None:
        self.held.pop(slot, None)


def sequence(number: int, prompt: int, limit: int, *, encoder: bool = False) -> Sequence:
    source, text = (tuple(range(prompt)), [0]) if encoder else ((), list(range(prompt)))
    return Sequence(number, source, text, len(text), Sampling(limit), number=number)


def step(scheduler: Scheduler, shelves: Shelves, plan: Plan) -> list[Sequence]:
    """What the engine does with a plan; the sequences that have ended."""
    for place, row in enumerate(plan.rows):
        assert row.slot == place and row.pending == 1
    for portion in plan.sources:
        assert shelves.held.setdefault(portion.sequence.slot, portion.sequence.key) == portion.sequence.key
    for row, count in [*((row, 1) for row in plan.rows), *plan.chunks]:
        assert shelves.held.setdefault(row.slot, row.key) == row.key
        assert 1 <= count <= row.pending
        row.cached += count
    ended = []
    for row in [*plan.rows, *(row for row, _ in plan.chunks)]:
        if row.pending == 0:
            row.text.append(0)
            if row.generated == row.sampling.max_new_tokens:
                ended.append(row)
    scheduler.finish(ended)
    return ended


@settings(max_examples=200)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(0, 20)), min_size=1, max_size=10),
    slots=st.integers(1, 5),
    tokens=st.integers(1, 30),
    budget=st.integers(52, 200),
    encoder=st.booleans(),
    depth=st.integers(0, 6),
)
def test_everybody_is_served_in_order_within_slots_and_memory(
    sizes: list[tuple[int, int, int]], slots: int, tokens: int, budget: int, encoder: bool, depth: int
) -> None:
    shelves = Shelves()
    scheduler = Scheduler(shelves, slots, tokens, budget, depth=depth)
    portions: list[tuple[int, int, int]] = []
    coming = [(when, sequence(key, prompt, limit, encoder=encoder)) for key, (prompt, limit, when) in enumerate(sizes)]
    begun: list[int] = []
    ended: set[int] = set()
    now = 0
    while scheduler.busy or coming:
        for when, each in list(coming):
            if when <= now:
                assert scheduler.fits(each)
                scheduler.add(each)
                coming.remove((when, each))

        plan = scheduler.plan()

        running = scheduler.running
        assert len(running) <= slots
        assert [each.slot for each in running] == list(range(len(running)))
        assert len(running) == 1 or sum(shelves.of(len(each.source), len(each.text)) for each in running) <= budget
        begun += [each.number for each in running if each.number not in begun]
        read = sum(count for _, count in plan.chunks) + sum(each.tokens for each in plan.sources)
        most = max(tokens, tokens // 4 + len(plan.rows), max((each.tokens for each in plan.sources), default=0))
        assert read <= most + len(plan.chunks)
        assert not scheduler.busy or plan.rows or plan.chunks or plan.sources, "nothing moves"
        assert not {each.sequence.key for each in plan.sources if not each.last} & {each.key for each, _ in plan.chunks}
        portions += [(each.sequence.key, each.part, each.parts) for each in plan.sources]
        ended |= {each.key for each in step(scheduler, shelves, plan)}
        now += 1
        assert now < 3000

    assert begun == sorted(begun, key=lambda number: (sizes[number][2], number))
    assert ended == set(range(len(sizes))) and not shelves.held
    for (
        key
    ) in ended:  # each source goes through all portions, in order; once more from the start after it was preempted
        own = [(part, parts) for each, part, parts in portions if each == key]
        assert all(part == before + 1 or part == 0 for (before, _), (part, _) in pairwise(own))
        assert not own or own[-1][0] == own[-1][1] - 1 < max(1, depth)


def test_a_source_is_read_in_portions_of_the_encoders_layers_while_others_go_on() -> None:
    shelves = Shelves()
    scheduler = Scheduler(shelves, 4, 10, 1000, depth=6)
    scheduler.add(sequence(0, 3, 20, encoder=True))
    step(scheduler, shelves, scheduler.plan())
    scheduler.add(sequence(1, 45, 5, encoder=True))
    scheduler.add(sequence(2, 3, 5, encoder=True))

    read = []
    for _ in range(5):
        plan = scheduler.plan()
        assert 0 in [row.key for row in plan.rows]
        read.append([(each.sequence.key, each.part, each.parts) for each in plan.sources])
        step(scheduler, shelves, plan)

    assert read == [[(1, part, 5)] for part in range(5)]
    assert [row.key for row in scheduler.plan().rows] == [0, 1, 2]


def test_a_long_prompt_is_read_in_portions_while_others_go_on() -> None:
    shelves = Shelves()
    scheduler = Scheduler(shelves, 4, 10, 1000)
    scheduler.add(sequence(0, 3, 20))
    step(scheduler, shelves, scheduler.plan())
    scheduler.add(sequence(1, 25, 5))

    portions: list[int] = []
    while len(portions) < 3:
        plan = scheduler.plan()
        assert [row.key for row in plan.rows] == [0]
        portions += [count for _, count in plan.chunks]
        step(scheduler, shelves, plan)

    assert portions == [9, 9, 7]
    assert [row.key for row in scheduler.plan().rows] == [0, 1]


def test_the_youngest_is_pushed_out_and_read_again_with_what_it_has_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heavylift_runtime.native.scheduler.AHEAD", 0)
    shelves = Shelves()
    scheduler = Scheduler(shelves, 4, 100, 20)
    for number in (0, 1):
        scheduler.add(sequence(number, 7, 9))
    for _ in range(4):
        step(scheduler, shelves, scheduler.plan())

    plan = scheduler.plan()

    assert [row.key for row in plan.rows] == [0] and not plan.chunks
    assert [(each.key, each.generated, each.cached, each.slot) for each in scheduler.waiting] == [(1, 4, 0, -1)]
    assert shelves.held == {0: 0}


def test_nobody_is_let_in_where_he_would_soon_be_pushed_out() -> None:
    scheduler = Scheduler(Shelves(), 4, 100, 90)
    for number in (0, 1):
        scheduler.add(sequence(number, 14, 50))

    assert [row.key for row, _ in scheduler.plan().chunks] == [0]


def test_what_never_fits_is_known_before_it_waits() -> None:
    scheduler = Scheduler(Shelves(), 4, 100, 20)

    assert scheduler.fits(sequence(0, 11, 10)) and not scheduler.fits(sequence(0, 11, 11))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_whoever_is_cancelled_leaves_no_gap(place: int) -> None:
    shelves = Shelves()
    scheduler = Scheduler(shelves, 4, 10, 1000)
    for number in range(2):
        scheduler.add(sequence(number, 3, 20))
    step(scheduler, shelves, scheduler.plan())
    scheduler.add(sequence(2, 30, 20))  # not all of it is read at once
    step(scheduler, shelves, scheduler.plan())

    scheduler.cancel(place)
    scheduler.cancel(99)

    assert [each.slot for each in scheduler.running] == [0, 1]
    assert shelves.held == {each.slot: each.key for each in scheduler.running}
    assert scheduler.running[-1].key == (1 if place == 2 else 2)
