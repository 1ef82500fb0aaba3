"""Clients that are slow, too many, or gone, and models that take too long: each ends, and holds nobody else up."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from heavylift_runtime import steps
from heavylift_runtime.server import body, patience, rolling, texts
from heavylift_runtime.server.refused import Refused
from tests.in_process import Serving, until, with_server
from tests.stepping import Parrot


def test_a_client_that_goes_away_is_cancelled_in_the_engine() -> None:
    steps = threading.Semaphore(3)

    async def story(serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        document = json.dumps({"inputs": "word " * 100, "stream": True}).encode()
        head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {len(document)}\r\n\r\n"
        writer.write(head.encode() + document)
        await reader.readuntil(b"word")

        writer.close()
        await until(lambda: serving.visits)
        steps.release(2)
        await until(lambda: serving.parrot.cancelled)

        assert not serving.parrot.busy and serving.line.running == 0
        assert (await asyncio.gather(serving.ask({"inputs": "next"}), asyncio.to_thread(steps.release, 9)))[
            0
        ].status_code == 200

    with_server(story, parrot=Parrot(gate=steps.acquire))


def test_a_client_that_does_not_read_is_ended_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "MOST_UNREAD", 50)
    monkeypatch.setattr(steps, "BREATH", 0)  # every token comes by itself
    monkeypatch.setattr(patience, "STALLED_SECONDS", 0.3)

    async def story(serving: Serving) -> None:
        document = {"inputs": f"{'long' * 3000} " * 500, "parameters": {"max_new_tokens": 1000}, "stream": True}
        content = json.dumps(document).encode()
        head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", serving.port))
            await asyncio.to_thread(slow.sendall, head.encode() + content)

            await until(lambda: serving.line.running)
            other = await serving.ask({"inputs": "quick"})
            await until(lambda: serving.visits and serving.visits[-1].stream)

        assert other.json()["outputs"] == ["quick"]
        assert serving.visits[-1].error == "the client left 50 tokens of its stream unread"
        await until(lambda: serving.parrot.cancelled)

    with_server(story)


class Unhurried:
    """A loop whose time comes when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Call:
        self.calls.append(call := Call(self, lambda: callback(*arguments)))
        return call

    def go_on(self) -> None:
        """All that waits for its time."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.made()


@dataclass(eq=False)
class Call:
    """Of a loop, later."""

    loop: Unhurried
    made: Callable[[], object]

    def cancel(self) -> None:
        self.loop.calls.remove(self)


class Pipe(asyncio.Transport):
    """Takes what it is given, and sends nothing of it unless the test says so."""

    waiting = 0
    closing = aborted = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: Any) -> None:
        self.waiting += len(data)

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True


def connected() -> tuple[patience.ImpatientProtocol, Pipe, Unhurried]:
    pipe, loop = Pipe(), Unhurried()
    given: Any = loop
    config = uvicorn.Config(Serving(Parrot(), 1, 1, None).app, log_config=None, ws="none")
    protocol = patience.ImpatientProtocol(config, ServerState(), {}, given)
    protocol.connection_made(pipe)
    loop.calls.clear()  # that of the first head
    return protocol, pipe, loop


def test_a_client_that_reads_a_long_reply_slowly_gets_all_of_it() -> None:
    protocol, pipe, loop = connected()
    pipe.write(b"x" * 1_000_000)
    protocol.pause_writing()
    for _ in range(10):
        pipe.waiting -= 90_000
        loop.go_on()
        assert not pipe.aborted
    loop.go_on()

    assert pipe.aborted  # the rest it does not read


@pytest.mark.parametrize("closed_before", [False, True])
def test_a_client_that_leaves_the_end_of_a_reply_unread_is_hung_up_on(closed_before: bool) -> None:
    protocol, pipe, loop = connected()
    pipe.write(b"x" * 80_000)
    protocol.pause_writing()
    if closed_before:
        protocol.transport.close()
    pipe.waiting = 10_000
    protocol.resume_writing()
    if not closed_before:
        protocol.transport.close()
    assert not pipe.aborted
    loop.go_on()

    assert pipe.aborted


def test_a_connection_on_which_nothing_waits_to_be_sent_is_watched_no_longer() -> None:
    protocol, pipe, loop = connected()
    pipe.write(b"x" * 80_000)
    protocol.pause_writing()
    pipe.waiting = 0
    protocol.resume_writing()
    protocol.transport.close()
    loop.go_on()

    assert not pipe.aborted and not loop.calls


@pytest.mark.parametrize("half", [b"", b"POST /invocations HTTP/1.1\r\nhost:"])
def test_a_client_that_never_ends_its_headers_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, half: bytes) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.1)

    async def story(serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(half)

        assert await reader.read() == b""
        writer.close()

    with_server(story)


def test_a_client_that_never_ends_the_headers_of_its_second_request_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.1)

    async def story(serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"}")
        writer.write(b"GET /pi")

        assert await reader.read() == b""
        writer.close()

    with_server(story)


def test_a_body_that_comes_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.1)

    async def story(serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b'POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{"in')

        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()

    with_server(story)


def test_bodies_that_come_in_together_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "MAX_ALL", 1000)

    async def story(serving: Serving) -> None:
        half = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 1200\r\n\r\n" + b" " * 600
        clients = [await asyncio.open_connection("127.0.0.1", serving.port) for _ in range(2)]
        for _, writer in clients:
            writer.write(half)
        reads = [asyncio.create_task(reader.readline()) for reader, _ in clients]
        done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)

        assert done.pop().result().startswith(b"HTTP/1.1 503 ")
        for _, writer in clients:
            writer.close()
        await asyncio.wait(reads)

    with_server(story)


def test_an_asynchronous_endpoints_body_may_be_larger_than_all_others_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(body, "MAX_ALL", 16)
    parts = [{"type": "http.request", "body": b"1234567890", "more_body": more} for more in (True, True, False)]

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    assert asyncio.run(body.Bodies(30).read({"content-length": "30"}, receive)) == b"1234567890" * 3
    parts += [{"type": "http.request", "body": b"1234567890", "more_body": True}] * 2
    with pytest.raises(Refused, match="must say its Content-Length") as caught:
        asyncio.run(body.Bodies(30).read({}, receive))
    assert caught.value.code == 411


def test_a_model_that_takes_too_long_is_424_and_a_request_that_never_left_the_queue_503() -> None:
    hold = threading.Event()

    async def story(serving: Serving) -> None:
        slow = await serving.ask({"inputs": "a"})
        streams = [asyncio.create_task(serving.ask({"inputs": "a", "stream": True})) for _ in range(2)]
        await until(lambda: serving.line.running == 2)  # a stream has eight minutes
        queued = await serving.ask({"inputs": "c"})

        assert (slow.status_code, queued.status_code) == (424, 503)
        assert slow.json()["error"] == "the model did not answer within 0.3 s (option.predict_timeout)"
        assert queued.json()["error"] == "the request waited 0.3 s in the queue (option.predict_timeout)"
        hold.set()
        assert [reply.status_code for reply in await asyncio.gather(*streams)] == [200, 200]
        assert serving.line.waiting == serving.line.running == 0

    with_server(story, parrot=Parrot(capacity=1, gate=hold.wait), budget=0.3)


def test_a_full_queue_is_503_with_when_to_come_back_and_empties_when_clients_leave() -> None:
    hold = threading.Event()

    async def story(serving: Serving) -> None:
        clients = [asyncio.create_task(serving.ask({"inputs": "a"}))]
        await until(lambda: serving.line.running)
        clients += [asyncio.create_task(serving.ask({"inputs": "a"})) for _ in range(3)]
        await until(lambda: serving.line.waiting == 2)

        refused = await serving.ask({"inputs": "b"})

        async with httpx.AsyncClient() as pinging:
            assert (await pinging.get(f"http://127.0.0.1:{serving.port}/ping")).status_code == 200
        assert (refused.status_code, refused.json()["code"]) == (503, 503)
        assert refused.json()["error"] == "the queue is full: 2 requests wait (job_queue_size=2)"
        assert int(refused.headers["retry-after"]) >= 1
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await until(lambda: serving.line.waiting == 0)
        hold.set()

    with_server(story, parrot=Parrot(capacity=1, gate=hold.wait))


def test_a_stream_s_time_is_eight_minutes_and_a_reply_s_sixty_seconds() -> None:
    assert texts.STREAM_SECONDS == 8 * 60
