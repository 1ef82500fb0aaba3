"""The rolling line: who is seated when, and what becomes of rows whose copy dies, stalls, or says what nobody asked."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from heavylift_runtime.engines.engine import Piece, Request, Sampling, Token
from heavylift_runtime.pieces import pack, unpack
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.rolling import Job, Rolling
from heavylift_runtime.wire import Message


class Told:
    """A copy that only remembers what it is told."""

    def __init__(self, line: Rolling, capacity: int = 1, number: int = 0) -> None:
        self.line, self.capacity, self.number = line, capacity, number
        self.given: list[tuple[int, str]] = []
        self.cancelled: list[int] = []
        self.fallen: list[str] = []
        self.waits: Callable[[], float] = lambda: 0.0
        line.rose(self)  # type: ignore[arg-type]

    def tell(self, message: Message) -> None:
        if message.type == "submit":
            self.given += [(row["key"], row["request"]["prompt"]) for row in message.header["rows"]]
        else:
            self.cancelled += message.header["keys"]

    def waited(self) -> float:
        return self.waits()

    def fall(self, reason: str) -> None:
        self.fallen.append(reason)
        self.line.fell(self, reason)  # type: ignore[arg-type]

    def say(self, key: int, text: str, finish: str | None = "eos_token") -> None:
        piece = Piece(key, (Token(1, text),), finish, 1, 1)
        message = Message({"type": "pieces", "pieces": [pack(piece)], "load": {}})
        self.line.heard(self, message)  # type: ignore[arg-type]

    @property
    def prompts(self) -> list[str]:
        return [prompt for _, prompt in self.given]


def with_line(story: Callable[[Rolling], Awaitable[None]], *, limit: int = 10, stall: float = 60) -> None:
    async def run() -> None:
        await asyncio.wait_for(story(Rolling(limit, stall)), 10)

    asyncio.run(run())


def join(line: Rolling, *prompts: str, stream: bool = False) -> Job:
    return line.join([Request(prompt, Sampling(4)) for prompt in prompts], stream=stream)


def texts(job: Job) -> Sequence[str]:
    return [finished.text for finished in job.finished()]


def test_rows_of_waiting_requests_are_seated_in_turn() -> None:
    async def story(line: Rolling) -> None:
        join(line, "a1", "a2", "a3", "a4")
        join(line, "b1")
        join(line, "c1", "c2")
        copy = Told(line, capacity=8)

        assert copy.prompts == ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]

    with_line(story)


def test_a_copy_is_given_a_quarter_more_than_it_can_run_and_the_next_when_one_ends() -> None:
    async def story(line: Rolling) -> None:
        copy = Told(line, capacity=8)
        job = join(line, *(str(number) for number in range(20)))
        assert len(copy.given) == 10

        copy.say(copy.given[3][0], "three")

        assert len(copy.given) == 11 and line.waiting == 1 and not job.done

    with_line(story)


def test_the_emptiest_copy_gets_the_next_row() -> None:
    async def story(line: Rolling) -> None:
        small, large = Told(line, capacity=2, number=0), Told(line, capacity=4, number=1)
        join(line, *(str(number) for number in range(8)))

        assert (len(small.given), len(large.given)) == (3, 5)
        assert large.prompts[:2] == ["0", "1"]

    with_line(story)


def test_an_unseen_row_of_a_dead_copy_is_computed_again_once_and_its_late_pieces_reach_nobody() -> None:
    async def story(line: Rolling) -> None:
        dying = Told(line)
        job = join(line, "a")
        (key, _) = dying.given[0]
        dying.say(key, "half an ans", finish=None)
        dying.fall("killed")
        other = Told(line, number=1)
        dying_again = other.given[0][0]

        other.say(key, "nobody's")
        other.say(dying_again, "whole")

        assert dying_again != key
        assert texts(job) == ["whole"]

    with_line(story)


def test_the_last_tokens_of_a_stream_that_ends_without_memory_come_before_the_error() -> None:
    async def story(line: Rolling) -> None:
        job, whole = join(line, "a", stream=True), join(line, "b")
        copy = Told(line, capacity=8)
        pieces = [Piece(key, (Token(1, "so far"),), None, 1, 1, (507, "memory ran out")) for key, _ in copy.given]
        line.heard(copy, Message({"type": "pieces", "pieces": [pack(each) for each in pieces]}))  # type: ignore[arg-type]

        assert job.refused is not None and job.refused.code == 507 and not job.done and job.news.is_set()
        assert [piece.tokens[0].text for _, piece in job.take()] == ["so far"]
        assert whole.refused is not None and not whole.unread and whole.news.is_set()

    with_line(story)


def test_a_row_whose_second_copy_dies_too_is_424() -> None:
    async def story(line: Rolling) -> None:
        job = join(line, "a")
        for number in range(2):
            Told(line, number=number).fall("killed by SIGKILL")

        assert job.refused is not None
        assert (job.refused.code, "killed by SIGKILL" in job.refused.sentence) == (424, True)
        assert line.waiting == line.running == 0

    with_line(story)


def test_a_stream_whose_client_has_seen_a_part_ends_and_one_that_has_not_begins_again() -> None:
    async def story(line: Rolling) -> None:
        copy = Told(line, capacity=4)
        seen, unseen = join(line, "seen", stream=True), join(line, "unseen", stream=True)
        for key, prompt in copy.given:
            copy.say(key, f"{prompt} token", finish=None)
        assert [piece.tokens[0].text for _, piece in seen.take()] == ["seen token"]

        copy.fall("killed")
        again = Told(line, number=1)
        again.say(again.given[0][0], "all")

        assert seen.refused is not None and seen.refused.code == 424
        assert again.prompts == ["unseen"]
        assert [piece.tokens[0].text for _, piece in unseen.take()] == ["all"]

    with_line(story)


def test_one_row_that_fails_ends_its_request_and_cancels_its_other_rows() -> None:
    async def story(line: Rolling) -> None:
        copy = Told(line, capacity=4)
        job, other = join(line, "good", "bad", "waits"), join(line, "other")
        keys = {prompt: key for key, prompt in copy.given}
        refusal = Message({"type": "refused", "key": keys["bad"], "code": 400, "error": "it is bad"})

        line.heard(copy, refusal)  # type: ignore[arg-type]
        copy.say(keys["other"], "fine")

        assert job.refused is not None and job.refused.sentence == "it is bad"
        assert set(copy.cancelled) == {keys["good"], keys["waits"]}
        assert texts(other) == ["fine"]

    with_line(story)


def test_a_copy_with_work_that_says_nothing_is_stopped_and_an_idle_one_is_not() -> None:
    async def story(line: Rolling) -> None:
        idle, stuck = Told(line, number=0), Told(line, number=1)
        job = join(line, "a")
        while not (idle.fallen or stuck.fallen):
            await asyncio.sleep(0.01)

        assert sum(len(copy.fallen) for copy in (idle, stuck)) == 1
        assert "said nothing for option.predict_timeout=0.05 s" in (idle.fallen + stuck.fallen)[0]
        assert job.refused is None  # the other copy has it now

    with_line(story, stall=0.05)


def test_a_copy_that_does_not_answer_a_cancel_falls_though_nobody_waits_for_it() -> None:
    async def story(line: Rolling) -> None:
        stuck, sound = Told(line, number=0), Told(line, number=1)
        jobs = [join(line, "a"), join(line, "b")]

        for job in jobs:
            line.leave(job)
        line.heard(sound, Message({"type": "pieces", "pieces": []}))  # type: ignore[arg-type]
        while not stuck.fallen:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)

        assert "said nothing for option.predict_timeout" in stuck.fallen[0]
        assert not sound.fallen

    with_line(story, stall=0.05)


def test_a_copy_that_had_nothing_to_do_was_not_silent() -> None:
    now = [0.0]

    async def run() -> None:
        line = Rolling(2, 0.08, clock=lambda: now[0])
        copy = Told(line)
        join(line, "a")
        copy.say(copy.given[0][0], "done")
        now[0] += 100
        join(line, "b")
        await asyncio.sleep(0.1)  # while the copy is looked at

        assert copy.fallen == []

    asyncio.run(run())


def test_a_copy_that_waits_for_a_processor_is_not_silent() -> None:
    async def story(line: Rolling) -> None:
        starved = Told(line)
        starved.waits = time.monotonic
        begun = time.monotonic()
        join(line, "a")
        while not starved.fallen:
            await asyncio.sleep(0.01)

        assert time.monotonic() - begun >= 0.5  # a tenth of the time counts at most: one that spins waits, too

    with_line(story, stall=0.05)


def test_a_copy_whose_server_was_held_up_is_looked_at_again_before_it_is_given_up() -> None:
    async def story(line: Rolling) -> None:
        copy = Told(line)
        join(line, "a")
        time.sleep(0.6)  # the event loop stands still, twice as long as a copy may be silent
        await asyncio.sleep(0)

        assert copy.fallen == []

    with_line(story, stall=0.3)


def test_a_full_line_says_when_to_come_back_at_the_pace_of_the_last_rows() -> None:
    now = [0.0]

    async def run() -> None:
        line = Rolling(2, 60, full=429, clock=lambda: now[0])
        copy = Told(line)
        jobs = [join(line, str(number)) for number in range(4)]
        for _ in range(2):  # ten seconds each
            now[0] += 10
            copy.say(copy.given[0][0], "done")
            copy.given.pop(0)
            jobs.append(join(line, "more"))

        with pytest.raises(Refused) as caught:
            join(line, "too many")

        assert caught.value.code == 429
        assert 5 <= (caught.value.retry_after or 0) <= 30

    asyncio.run(run())


def test_who_comes_when_no_copy_will_come_any_more_is_told_so_at_once() -> None:
    async def story(line: Rolling) -> None:
        waiting = join(line, "a")
        line.end(Refused(503, "the model is gone"))
        line.end(Refused(503, "the model is being unloaded"))

        assert waiting.refused is not None and waiting.refused.sentence == "the model is gone"
        for _ in range(2):
            with pytest.raises(Refused, match="the model is gone"):
                join(line, "late")
        assert line.waiting == 0

    with_line(story)


@pytest.mark.parametrize(
    "piece",
    [
        Piece(7, (), None, 3, 0),
        Piece(7, (Token(1, "é", -0.5, ((1, "é", -0.5), (2, "x", -2.0))),), "length", 3, 1),
        Piece(7, (), None, 3, 0, (507, "memory ran out")),
    ],
)
def test_a_piece_survives_its_short_form(piece: Piece) -> None:
    assert unpack(json.loads(json.dumps(pack(piece)))) == piece
