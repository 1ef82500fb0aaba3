"""The HTTP routes in this process, with a function as the model: slow clients, time-outs, what goes wrong behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvicorn

from heavylift_runtime.server import app, patience
from heavylift_runtime.server.dialects import TextDialect
from heavylift_runtime.server.line import Line, serve_line
from heavylift_runtime.server.refused import Refused

Answer = Callable[[list[Any]], Awaitable[list[Any]]]


async def echo(rows: list[Any]) -> list[Any]:
    return [
        {"text": row["prompt"], "finish_reason": "eos_token", "prompt_tokens": 2, "generated_tokens": 1} for row in rows
    ]


def with_server(
    story: Callable[[int, Line], Awaitable[None]], answer: Answer = echo, *, budget: float = 10, ready: bool = True
) -> None:
    """Run a story beside the server on a free port of this process."""

    async def run() -> None:
        line, copy = Line(batch_size=2, delay=0.01, limit=2), asyncio.Event()
        copy.set()
        door = app.Door(lambda: (ready, {"status": "loading: weights"}), TextDialect(64), line, budget)
        config = uvicorn.Config(
            app.build(door), port=0, http=patience.ImpatientProtocol, lifespan="off", log_config=None, ws="none"
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # of older releases
        tasks = [asyncio.create_task(serve_line(line, copy, answer)), asyncio.create_task(server.serve())]
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            await asyncio.wait_for(story(server.servers[0].sockets[0].getsockname()[1], line), 20)
        finally:
            server.should_exit = server.force_exit = True
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


async def ask(port: int, body: object, **arguments: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10, verify=False) as client:
        return await client.post(f"http://127.0.0.1:{port}/invocations", json=body, **arguments)


def test_details_come_only_when_asked_for() -> None:
    async def story(port: int, line: Line) -> None:
        plain = (await ask(port, {"inputs": ["a", "b", "c"]})).json()
        detailed = (await ask(port, {"inputs": "a", "parameters": {"details": True}})).json()

        assert plain == {
            "outputs": ["a", "b", "c"],
            "usage": {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9},
        }
        assert detailed["details"] == [{"finish_reason": "eos_token", "prompt_tokens": 2, "generated_tokens": 1}]

    with_server(story)


@pytest.mark.parametrize("half", [b"", b"POST /invocations HTTP/1.1\r\nhost:"])
def test_a_client_that_never_ends_its_headers_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, half: bytes) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.1)

    async def story(port: int, line: Line) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(half)

        assert await reader.read() == b""
        writer.close()

    with_server(story)


def test_a_client_that_never_ends_the_headers_of_its_second_request_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.1)

    async def story(port: int, line: Line) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"}")
        writer.write(b"GET /pi")

        assert await reader.read() == b""
        writer.close()

    with_server(story)


def test_a_body_that_comes_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "BODY_SECONDS", 0.1)

    async def story(port: int, line: Line) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{"in')

        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()

    with_server(story)


def test_a_model_that_takes_too_long_is_424_and_a_request_that_never_left_the_queue_503() -> None:
    async def never(rows: list[Any]) -> list[Any]:
        await asyncio.Event().wait()
        return []

    async def story(port: int, line: Line) -> None:
        slow, queued = await asyncio.gather(ask(port, {"inputs": ["a", "b"]}), ask(port, {"inputs": "c"}))

        assert (slow.status_code, queued.status_code) == (424, 503)
        assert slow.json()["error"] == "the model did not answer within 0.3 s (option.predict_timeout)"
        assert queued.json()["error"] == "the request waited 0.3 s in the queue (option.predict_timeout)"
        assert len(line) == 0

    with_server(story, never, budget=0.3)


def test_a_full_queue_is_503_and_empties_when_clients_leave() -> None:
    taken = asyncio.Event()

    async def never(rows: list[Any]) -> list[Any]:
        taken.set()
        await asyncio.Event().wait()
        return []

    async def story(port: int, line: Line) -> None:
        clients = [asyncio.create_task(ask(port, {"inputs": ["a", "b"]}))]
        await taken.wait()
        clients += [asyncio.create_task(ask(port, {"inputs": "a"})) for _ in range(2)]
        while len(line) < 2:
            await asyncio.sleep(0.01)

        refused = await ask(port, {"inputs": "b"})

        assert (refused.status_code, refused.json()["code"]) == (503, 503)
        assert refused.json()["error"] == "the queue is full: 2 requests wait (job_queue_size=2)"
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        while len(line):
            await asyncio.sleep(0.01)

    with_server(story, never)


def test_the_models_failure_is_the_reply() -> None:
    async def fails(rows: list[Any]) -> list[Any]:
        raise Refused(424, "the model stopped")

    async def story(port: int, line: Line) -> None:
        reply = await ask(port, {"inputs": "a"})

        assert (reply.status_code, reply.json()) == (424, {"error": "the model stopped", "code": 424})

    with_server(story, fails)


def test_while_it_loads_ping_and_invocations_are_503() -> None:
    async def story(port: int, line: Line) -> None:
        reply = await ask(port, {"inputs": "a"})
        async with httpx.AsyncClient(verify=False) as client:
            ping = await client.get(f"http://127.0.0.1:{port}/ping")

        assert (ping.status_code, ping.json()) == (503, {"status": "loading: weights"})
        assert reply.json() == {"error": "the model is not ready: loading: weights", "code": 503}

    with_server(story, ready=False)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-type": "text/plain"}, 415),
        ({"accept": "application/json;verbose=1, text/csv"}, 200),
        ({"accept": "text/csv"}, 406),
    ],
)
def test_the_content_types_are_json_s(headers: dict[str, str], code: int) -> None:
    async def story(port: int, line: Line) -> None:
        assert (await ask(port, {"inputs": "a"}, headers=headers)).status_code == code

    with_server(story)
