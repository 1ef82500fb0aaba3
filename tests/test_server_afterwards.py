"""When a visit is told to the log and the metrics: not in the turn of its reply, but before anybody asks for them."""

from __future__ import annotations

import asyncio
import io
import json

from heavylift_runtime.server.afterwards import Afterwards
from heavylift_runtime.server.attending import Departure
from heavylift_runtime.server.journal import Journal
from heavylift_runtime.server.metrics import Metrics
from heavylift_runtime.server.visit import Visit


def visit(name: str) -> Visit:
    async def send(message: object) -> None:
        raise AssertionError("nothing is sent")

    return Visit("/invocations", {}, Departure(), send, name, model="model", code=200)


def test_visits_are_told_after_the_turn_that_they_end_in_in_their_order_and_once() -> None:
    said = io.StringIO()
    told = Afterwards(Journal(said), Metrics(list))

    async def serve() -> None:
        for name in ("one", "two"):
            told.over(visit(name))
        assert not said.getvalue()
        while not said.getvalue():
            await asyncio.sleep(0)
        told.tell()

    asyncio.run(asyncio.wait_for(serve(), 60))

    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [(line["event"], line["id"], line["code"]) for line in lines] == [
        ("request", "one", 200),
        ("request", "two", 200),
    ]


def test_a_line_says_when_the_visit_ended_and_not_when_it_was_written() -> None:
    said = io.StringIO()
    clock = iter([1000.0])
    told = Afterwards(Journal(said, lambda: next(clock)), Metrics(list))

    async def serve() -> None:
        ended = asyncio.get_running_loop().time()
        told.over(visit("one"))
        while asyncio.get_running_loop().time() < ended + 0.002:
            pass
        told.tell()

    asyncio.run(serve())

    assert json.loads(said.getvalue())["at"] < "1970-01-01T00:16:39.999"


def test_the_metrics_page_has_every_visit_that_has_ended() -> None:
    told = Afterwards(Journal(io.StringIO()), Metrics(list))

    async def serve() -> bytes:
        told.over(visit("one"))
        return told.page()

    assert b'heavylift_requests_total{code="200",model="model"} 1.0' in asyncio.run(serve())


def test_a_visit_that_ends_after_some_were_told_is_told_too() -> None:
    said = io.StringIO()
    told = Afterwards(Journal(said), Metrics(list))

    async def serve() -> None:
        told.over(visit("one"))
        told.page()
        told.over(visit("two"))
        while len(said.getvalue().splitlines()) < 2:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(serve(), 60))
