"""Continuous batching, iteration by iteration: by hand, against a plain simulation token by token, and by its laws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.plan.simulate import Arrival, Limits, Outcome, read_trace, simulate
from heavylift.plan.simulate.batching import BLOCK, WATERMARK
from heavylift.plan.simulate.steptime import stretch


@dataclass(frozen=True)
class Line:
    """A straight line, with a kink where `floor` ends: a decode step's roofline."""

    base: float = 1.0
    row: float = 0.0
    token: float = 0.0
    read: float = 0.0
    floor: float = 0.0
    beside: float = 0.0

    def decode(self, rows: int, context: int) -> float:
        return max(self.base + self.row * rows + self.token * context, self.floor)

    def prefill(self, start: int, end: int) -> float:
        return self.read * (end - start)

    def outside(self, prompt: int) -> float:
        return self.beside


ROOMY = Limits(cache_tokens=1 << 20)


def times(outcome: Outcome) -> list[tuple[float, float]]:
    return [(each.first_s, each.end_s) for each in outcome.requests]


# by hand ---------------------------------------------------------------------------------------------------------


def test_one_request_reads_its_prompt_and_then_makes_a_token_a_step() -> None:
    outcome = simulate([Arrival(2.0, 10, 4)], Line(base=1.0, read=0.1), ROOMY)

    assert times(outcome) == [(4.0, 7.0)]  # 1 + 10 · 0.1 for prompt and first token, then three steps of 1
    assert outcome.ttft_s[50] == 2.0 and outcome.tpot_s[50] == 1.0 and outcome.latency_s[99] == 5.0
    assert (outcome.seconds, outcome.utilisation, outcome.rows) == (5.0, 1.0, 1.0)
    assert outcome.tokens_per_second == 4 / 5


def test_a_request_that_comes_during_a_step_joins_at_its_end() -> None:
    outcome = simulate([Arrival(0.0, 10, 6), Arrival(2.5, 10, 2)], Line(base=1.0, read=0.1), ROOMY)

    # the first: 0 to 2 prompt and first token, a step to 3, then the other's prompt beside its own token until 5,
    # then three steps more; the second waits from 2.5 to 3
    assert times(outcome) == [(2.0, 8.0), (5.0, 6.0)]


def test_a_long_prompt_is_read_in_chunks_beside_the_decodes() -> None:
    limits = Limits(1 << 20, rows=8, batch_tokens=11)
    outcome = simulate([Arrival(0.0, 1, 9), Arrival(0.5, 25, 1)], Line(base=1.0), limits)

    # at 1.0: 10 of the 25 tokens beside one decode, at 2.0 ten more, at 3.0 the last five
    assert times(outcome) == [(1.0, 9.0), (4.0, 4.0)]


def test_no_more_rows_run_than_may() -> None:
    outcome = simulate([Arrival(0.0, 1, 3)] * 3, Line(), Limits(1 << 20, rows=2))

    assert times(outcome) == [(1.0, 3.0), (1.0, 3.0), (4.0, 6.0)]


def test_a_full_cache_takes_the_last_sequence_back_and_reads_it_again() -> None:
    # four blocks of 16: two sequences of 16 + 1 tokens take two blocks each, and at 32 tokens each wants a third
    outcome = simulate([Arrival(0.0, 16, 20), Arrival(0.0, 16, 20)], Line(), Limits(4 * BLOCK))

    first, second = outcome.requests
    assert outcome.preemptions == 1 and outcome.read_again == 32
    assert (first.first_s, first.end_s) == (1.0, 20.0)
    # it had 16 tokens when it left; it came back at 20.0, read 32 tokens, made the 17th and three more
    assert (second.first_s, second.end_s) == (1.0, 24.0)
    assert outcome.cache == 1.0


def test_copies_share_by_the_fewest_outstanding() -> None:
    outcome = simulate([Arrival(0.0, 1, 4), Arrival(0.1, 1, 2), Arrival(2.5, 1, 1)], Line(), ROOMY, copies=2)

    # the third finds the second's copy free at 2.1
    assert times(outcome) == [(1.0, 4.0), (pytest.approx(1.1), pytest.approx(2.1)), (3.5, 3.5)]


def test_time_outside_the_iterations_is_waited_for_but_occupies_nobody() -> None:
    outcome = simulate([Arrival(0.0, 1, 2)], Line(beside=0.5), ROOMY)

    assert times(outcome) == [(1.5, 2.5)]
    assert outcome.utilisation == pytest.approx(2 / 2.5)


def test_an_engine_whose_rows_do_not_join_answers_a_whole_batch_at_once() -> None:
    limits = Limits(1 << 20, rows=2, batch_tokens=1 << 20, joins=False)
    outcome = simulate([Arrival(0.0, 1, 2), Arrival(0.0, 1, 5), Arrival(0.5, 1, 1)], Line(), limits)

    assert times(outcome) == [(1.0, 5.0), (1.0, 5.0), (6.0, 6.0)]


def test_targets_are_kept_by_a_share_of_the_requests() -> None:
    outcome = simulate([Arrival(0.0, 1, 3)] * 3, Line(), Limits(1 << 20, rows=2))

    assert outcome.kept({"latency": 3.0}) == pytest.approx(2 / 3)
    assert outcome.kept({"ttft": 1.0, "tpot": 1.0}) == pytest.approx(2 / 3)
    assert outcome.kept({}) == 1.0


def test_a_request_that_no_cache_holds_is_refused() -> None:
    with pytest.raises(InputError, match="a request of 60 tokens in and 5 out does not fit the cache of 64 tokens"):
        simulate([Arrival(0.0, 1, 1), Arrival(0.0, 60, 5)], Line(), Limits(64))


# against the plain simulation --------------------------------------------------------------------------------------


@dataclass
class Plain:
    """A sequence of the plain simulation: `tokens` in the cache, of which `prompt` are read before it decodes."""

    place: int
    prompt: int
    tokens: int = 0
    made: int = 0

    @property
    def decodes(self) -> bool:
        return self.tokens > self.prompt

    @property
    def blocks(self) -> int:
        return -(-max(self.tokens, self.prompt + 1) // BLOCK)


def plain(trace: Sequence[Arrival], time: Line, limits: Limits) -> list[tuple[float, float]]:
    """The same rules in the plainest way: one iteration after the other, every sum computed anew."""
    first, end = [math.nan] * len(trace), [math.nan] * len(trace)
    waiting = [Plain(place, arrival.input_tokens) for place, arrival in enumerate(trace)]
    running: list[Plain] = []
    now = 0.0
    while waiting or running:
        if not running:
            now = max(now, trace[waiting[0].place].arrival_s)
        left = sum(each.prompt - each.tokens for each in running if not each.decodes)
        budget = limits.batch_tokens - sum(each.decodes for each in running) - left
        while waiting and trace[waiting[0].place].arrival_s <= now and len(running) < limits.rows and budget > 0:
            spare = max(grown(running), int(WATERMARK * limits.blocks))
            if running and sum(each.blocks for each in (*running, waiting[0])) + spare > limits.blocks:
                break
            budget -= waiting[0].prompt
            running.append(waiting.pop(0))
        while sum(each.blocks for each in running) + grown(running) > limits.blocks and len(running) > 1:
            back = running.pop()
            waiting.insert(0, Plain(back.place, max(back.prompt, back.tokens), 0, back.made))
        decoding = [each for each in running if each.decodes]
        rows, context, added = len(decoding), sum(each.tokens for each in decoding), 0.0
        budget = limits.batch_tokens - rows
        for each in running:
            if not each.decodes and (budget > 0 or not rows):
                chunk = min(each.prompt - each.tokens, max(budget, 1))
                added += time.prefill(each.tokens, each.tokens + chunk)
                each.tokens += chunk
                rows, context, budget = rows + 1, context + each.tokens, budget - chunk
                if each.tokens == each.prompt:
                    decoding.append(each)
        now += added + time.decode(rows, context)
        for each in decoding:
            each.tokens += 1
            each.made += 1
            first[each.place] = now if math.isnan(first[each.place]) else first[each.place]
            if each.made == trace[each.place].output_tokens:
                end[each.place] = now
                running.remove(each)
    return list(zip(first, end, strict=True))


def grown(running: list[Plain]) -> int:
    """Blocks that the next token of every decoding sequence takes."""
    return sum(each.decodes and each.tokens % BLOCK == 0 for each in running)


ARRIVALS = st.builds(Arrival, st.sampled_from([0.0, 0.5, 1.0, 3.0, 7.3, 20.0]), st.integers(1, 40), st.integers(1, 40))
TRACES = st.lists(ARRIVALS, min_size=1, max_size=12).map(lambda found: sorted(found, key=lambda each: each.arrival_s))
LINES = st.builds(
    Line,
    base=st.sampled_from([0.5, 1.0]),
    row=st.sampled_from([0.0, 0.125]),
    token=st.sampled_from([0.0, 0.015625]),
    read=st.sampled_from([0.0, 0.0625]),
    floor=st.sampled_from([0.0, 1.5, 2.0]),
)
LIMITS = st.builds(
    Limits, st.sampled_from([96, 160, 512]), st.sampled_from([1, 2, 4, 256]), st.sampled_from([1, 8, 64, 2048])
)


@pytest.mark.slow
@settings(max_examples=300)
@given(TRACES, LINES, LIMITS)
def test_stretches_give_what_a_simulation_token_by_token_gives(
    trace: list[Arrival], time: Line, limits: Limits
) -> None:
    outcome = simulate(trace, time, limits)

    expected = plain(trace, time, limits)
    assert times(outcome) == [(pytest.approx(first), pytest.approx(end)) for first, end in expected]


@settings(max_examples=100)
@given(TRACES, LINES, LIMITS, st.integers(1, 3))
def test_every_request_is_served_once_and_no_copy_idles_while_it_has_work(
    trace: list[Arrival], time: Line, limits: Limits, copies: int
) -> None:
    outcome = simulate(trace, time, limits, copies)

    for arrival, each in zip(trace, outcome.requests, strict=True):
        assert arrival.arrival_s <= each.start_s < each.first_s <= each.end_s
        assert (each.input_tokens, each.output_tokens) == (arrival.input_tokens, arrival.output_tokens)
    assert outcome.tokens_per_second * outcome.seconds == pytest.approx(sum(each.output_tokens for each in trace))
    assert 0 < outcome.utilisation <= 1 + 1e-9 and 0 < outcome.cache <= 1
    assert outcome.read_again >= 0 and (outcome.preemptions > 0 or outcome.read_again == 0)
    if copies == 1:  # busy exactly while some request is in the system
        assert outcome.utilisation * outcome.seconds == pytest.approx(union(outcome))


def union(outcome: Outcome) -> float:
    """Seconds during which at least one request was in the system."""
    covered, end = 0.0, -math.inf
    for each in sorted(outcome.requests, key=lambda one: one.arrival_s):
        covered += max(0.0, each.end_s - max(each.arrival_s, end))
        end = max(end, each.end_s)
    return covered


@settings(max_examples=100)
@given(TRACES, LINES)
def test_rows_are_rate_times_time_as_little_says(trace: list[Arrival], time: Line) -> None:
    outcome = simulate(trace, time, ROOMY)

    assert outcome.preemptions == 0
    running = sum(each.end_s - each.start_s for each in outcome.requests)
    assert outcome.rows * outcome.utilisation * outcome.seconds == pytest.approx(running)


@settings(max_examples=200)
@given(
    LINES,
    st.integers(1, 9),
    st.integers(0, 400),
    st.integers(1, 200),
    st.one_of(st.just(math.inf), st.floats(0.01, 400)),
)
def test_a_stretch_is_the_sum_of_its_steps(time: Line, rows: int, context: int, count: int, room: float) -> None:
    steps, seconds = stretch(time, rows, context, count, room)

    total, taken = 0.0, 0
    while taken < count and total < room * (1 - 1e-9):
        total += time.decode(rows, context + taken * rows)
        taken += 1
    assert (steps, seconds) == (taken, pytest.approx(total))


def test_more_copies_never_make_the_last_answer_later() -> None:
    trace = [Arrival(place * 0.3, 5 + place % 7, 3 + place % 11) for place in range(60)]
    ends = [
        max(each.end_s for each in simulate(trace, Line(row=0.2), ROOMY, copies).requests) for copies in (1, 2, 4, 8)
    ]

    assert ends == sorted(ends, reverse=True)


# the trace's file --------------------------------------------------------------------------------------------------


def test_a_trace_is_read_in_order_of_arrival(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(
        '{"arrival_s": 2, "input_tokens": 3, "output_tokens": 4}\n\n'
        '{"arrival_s": 0.5, "input_tokens": 1, "output_tokens": 2}\n'
    )

    assert read_trace(path) == (Arrival(0.5, 1, 2), Arrival(2.0, 3, 4))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "not JSON; a line is like"),
        ("[" * 100_000, "not JSON; a line is like"),
        ("[1]", "not an object; a line is like"),
        ('{"arrival_s": 1, "input_tokens": 1}', "'output_tokens' is missing"),
        ('{"arrival_s": -1, "input_tokens": 1, "output_tokens": 1}', "'arrival_s' must be a number of seconds from 0"),
        ('{"arrival_s": NaN, "input_tokens": 1, "output_tokens": 1}', "'arrival_s' must be a number"),
        ('{"arrival_s": true, "input_tokens": 1, "output_tokens": 1}', "got true"),
        ('{"arrival_s": 1, "input_tokens": 0, "output_tokens": 1}', "'input_tokens' must be a whole number from 1"),
        ('{"arrival_s": 1, "input_tokens": 1.5, "output_tokens": 1}', "got 1.5"),
        ('{"arrival_s": 1, "input_tokens": 1, "output_tokens": 1, "n": 1}', "unknown key 'n'"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"arrival_s": 0, "input_tokens": 1, "output_tokens": 1}\n' + line + "\n")

    with pytest.raises(InputError) as caught:
        read_trace(path)

    assert caught.value.faults[0].startswith(f"{path}:2: ") and fault in caught.value.faults[0]


def test_of_many_faults_the_first_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("x\n" * 50)

    with pytest.raises(InputError) as caught:
        read_trace(path)

    assert len(caught.value.faults) == 21 and caught.value.faults[-1].endswith("30 more faults")


def test_an_empty_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n")

    with pytest.raises(InputError, match=r"has no requests; a line is like \{\"arrival_s\": 0\.25"):
        read_trace(path)
