"""The line before a script: batches by size and delay, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from heavylift_runtime.server.flow import Flow
from heavylift_runtime.server.line import Line, serve_line
from heavylift_runtime.server.refused import Refused


class Model:
    """Upper-cases rows, remembers its batches, refuses a batch with 'poison' in it."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def __call__(self, rows: list[Any]) -> list[str]:
        self.batches.append(rows)
        if "poison" in rows:
            raise Refused(400, "poison is not food")
        return [row.upper() for row in rows]


def with_model(line: Line, model: Callable[[list[Any]], Awaitable[Any]], story: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        ready = asyncio.Event()
        ready.set()
        serving = asyncio.create_task(serve_line(line, ready, model))
        try:
            await asyncio.wait_for(story(), 10)
        finally:
            serving.cancel()

    asyncio.run(run())


def test_rows_of_several_requests_share_a_batch_and_keep_their_owners() -> None:
    line, model = Line(batch_size=4, delay=5, limit=10), Model()

    async def story() -> None:
        jobs = [line.join(["a", "b"]), line.join(["c"]), line.join(["d"])]

        assert await asyncio.gather(*(job.done for job in jobs)) == [["A", "B"], ["C"], ["D"]]

    with_model(line, model, story)
    assert model.batches == [["a", "b", "c", "d"]]


def test_a_request_larger_than_a_batch_leaves_in_several_and_comes_back_in_order() -> None:
    line, model = Line(batch_size=2, delay=0, limit=10), Model()

    async def story() -> None:
        assert await line.join(["a", "b", "c", "d", "e"]).done == ["A", "B", "C", "D", "E"]

    with_model(line, model, story)
    assert model.batches == [["a", "b"], ["c", "d"], ["e"]]


def test_a_batch_that_does_not_fill_leaves_after_the_delay() -> None:
    line, model = Line(batch_size=4, delay=0.05, limit=10), Model()

    async def story() -> None:
        began = asyncio.get_running_loop().time()
        await line.join(["a"]).done

        assert 0.05 <= asyncio.get_running_loop().time() - began < 5

    with_model(line, model, story)


def test_a_full_line_refuses_with_503() -> None:
    async def run() -> None:
        line = Line(batch_size=1, delay=0, limit=2)
        line.join(["a"])
        line.join(["b"])

        with pytest.raises(Refused, match="the queue is full: 2 requests wait") as caught:
            line.join(["c"])

        assert caught.value.code == 503

    asyncio.run(run())


def test_who_comes_when_no_copy_will_come_any_more_is_told_so_at_once() -> None:
    async def run() -> None:
        line = Line(batch_size=1, delay=0, limit=2)
        waiting = line.join(["a"])
        line.end(Refused(503, "the model is gone"))

        with pytest.raises(Refused, match="the model is gone"):
            await waiting.done
        for _ in range(2):
            with pytest.raises(Refused, match="the model is gone"):
                line.join(["late"])
        assert len(line) == 0

    asyncio.run(run())


def test_a_refused_batch_is_refused_for_all_as_lmi_does() -> None:
    line, model = Line(batch_size=3, delay=5, limit=10), Model()

    async def story() -> None:
        for job in (line.join(["a"]), line.join(["poison"]), line.join(["b"])):
            with pytest.raises(Refused, match="poison is not food"):
                await job.done

    with_model(line, model, story)
    assert model.batches == [["a", "poison", "b"]]


def test_a_model_with_fewer_answers_than_requests_fails_the_batch() -> None:
    line = Line(batch_size=2, delay=5, limit=10)

    async def model(rows: list[Any]) -> list[Any]:
        return rows[:1]

    async def story() -> None:
        for job in (line.join(["a"]), line.join(["b"])):
            with pytest.raises(Refused, match="1 answers to a batch of 2 requests") as caught:
                await job.done
            assert caught.value.code == 424

    with_model(line, model, story)


def test_a_copy_is_busy_until_its_flow_is_over() -> None:
    line, flows = Line(batch_size=1, delay=0, limit=10), []

    async def model(rows: list[Any]) -> list[Any]:
        flows.append(Flow(200, {}, lambda: None))
        return flows[-1:]

    async def story() -> None:
        first, second = line.join(["a"]), line.join(["b"])
        assert await first.done == flows
        assert len(line) == 1

        flows[0].finish()

        assert await second.done == flows[1:]

    with_model(line, model, story)


def test_a_request_that_has_left_is_not_computed() -> None:
    line, model = Line(batch_size=1, delay=0, limit=10), Model()

    async def story() -> None:
        gone, stays = line.join(["gone"]), line.join(["stays"])
        line.leave(gone)

        assert await stays.done == ["STAYS"]

    with_model(line, model, story)
    assert model.batches == [["stays"]]


def test_a_dead_copy_answers_all_rows_of_its_batch_and_the_line_goes_on() -> None:
    line = Line(batch_size=2, delay=0, limit=10)
    calls = iter([Refused(424, "the model stopped"), None])

    async def model(rows: list[Any]) -> list[Any]:
        refused = next(calls)
        if refused is not None:
            raise refused
        return rows

    async def story() -> None:
        one, two = line.join(["a"]), line.join(["b"])
        for job in (one, two):
            with pytest.raises(Refused, match="the model stopped"):
                await job.done

        assert await line.join(["c"]).done == ["c"]

    with_model(line, model, story)


def test_a_fault_of_the_server_fails_its_requests_and_the_line_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    line = Line(batch_size=1, delay=0, limit=10)

    async def model(rows: list[Any]) -> list[Any]:
        return [1 / len(rows[0])]

    async def story() -> None:
        broken = line.join([""])
        with pytest.raises(Refused, match="the server failed") as caught:
            await broken.done

        assert caught.value.code == 500
        assert await line.join(["ab"]).done == [0.5]

    with_model(line, model, story)
    assert "ZeroDivisionError" in caplog.text


def test_rows_that_are_put_back_are_the_first_again() -> None:
    async def run() -> None:
        line = Line(batch_size=3, delay=0, limit=10)
        line.join(["a", "b"])
        line.join(["c", "d"])
        batch = await line.take()
        line.put_back(batch)

        again = [row.content for row in await line.take()]

        assert again == ["a", "b", "c"]
        assert [row.content for row in await line.take()] == ["d"]

    asyncio.run(run())
