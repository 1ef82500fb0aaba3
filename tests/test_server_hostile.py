"""Hostile connections: heads without an end, smuggled requests, pipelines, upgrades. Bodies: test_server_fuzz.py."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from starlette.routing import Route
from starlette.types import Scope

from heavylift_runtime.server import app, body, patience
from heavylift_runtime.server.gathered import Gathered
from heavylift_runtime.server.refused import Refused
from tests.in_process import Serving, until, with_server
from tests.stepping import Parrot

PING = b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n"


def post(document: object, *fields: bytes) -> bytes:
    body = json.dumps(document).encode()
    head = [b"POST /invocations HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *fields]
    return b"\r\n".join([*head, b"", body])


async def talk(port: int, *parts: bytes, pause: float = 0.02, replies: int = 0) -> bytes:
    """What comes back until the server hangs up, or has nothing more to say, which it is given long to say while there
    are fewer heads of `replies`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)
        while data := await asyncio.wait_for(reader.read(65536), 0.5 if said.count(b"HTTP/1.1 ") >= replies else 15):
            said += data
    except (ConnectionError, TimeoutError, RuntimeError):  # libuv's: the transport is closed
        pass
    finally:
        writer.close()
    return said


@pytest.mark.parametrize(
    "head",
    [
        b"GET /ping HTTP/1.1\r\n\r\n",  # no host
        b"GET /ping HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"GET /ping HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET /ping HTTP/0.9\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /ping\r\n\r\n",
        b"GET /ping HTTP/1.1\nhost: x\n\n",
        b"GET /ping HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n",
        b"GET /p\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT evil:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: +2\r\n\r\n{}",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 0x2\r\n\r\n{}",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ],
    ids=lambda head: repr(head[:70]),
)
def test_a_head_that_two_servers_could_read_differently_is_refused_and_nothing_after_it_is_read(head: bytes) -> None:
    async def story(serving: Serving) -> None:
        said = await talk(serving.port, head + PING)

        assert said == b"" or said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ")), said
        assert said.count(b"HTTP/1.1 ") <= 1 and b" 200 " not in said

    with_server(story)


@pytest.mark.parametrize(
    "parts",
    [
        (b"GET /ping HTTP/1.1\r\nhost: x\r\nx: ", *[b"y" * 30_000] * 4),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",),
        (b"GET /ping HTTP/1.1\r\nhost: x\r\n", *[b"x-a: b\r\n" * 3000] * 6),
        (b"GET /ping HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x-%d: y\r\n" % each for each in range(9000)) + b"\r\n",),
        (
            b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
            *[b"x-trailer: y\r\n" * 3000] * 6,
        ),
    ],
    ids=["a header", "a path", "headers in parts", "headers at once", "trailers"],
)
def test_a_head_without_an_end_is_refused_before_it_fills_the_memory(parts: tuple[bytes, ...]) -> None:
    async def story(serving: Serving) -> None:
        said = await talk(serving.port, *parts)

        assert said == b"" or said.startswith(b"HTTP/1.1 400 "), said
        assert b" 200 " not in said

    with_server(story)


def test_a_trailer_is_no_header() -> None:
    async def story(serving: Serving) -> None:
        body = json.dumps({"inputs": "a"}).encode()
        chunk = b"%x\r\n%b\r\n0\r\nx-amzn-sagemaker-custom-attributes: sneaked\r\n\r\n" % (len(body), body)
        said = await talk(
            serving.port,
            b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + chunk,
            replies=1,
        )

        assert said.startswith(b"HTTP/1.1 200 ") and b"sneaked" not in said

    with_server(story)


def test_requests_that_are_sent_without_waiting_are_answered_in_order() -> None:
    async def story(serving: Serving) -> None:
        said = await talk(
            serving.port, b"".join(post({"inputs": f"number {number}"}) for number in range(6)), replies=6
        )

        found = [said.index(b"number %d" % number) for number in range(6)]
        assert said.count(b"HTTP/1.1 200 ") == 6 and found == sorted(found)

    with_server(story)


def test_too_many_of_them_are_hung_up_on() -> None:
    gate = threading.Event()

    async def story(serving: Serving) -> None:
        talking = asyncio.create_task(talk(serving.port, post({"inputs": "slow"}) + PING * 100, replies=1))
        await until(lambda: serving.line.running)
        gate.set()
        said = await talking

        assert said.startswith(b"HTTP/1.1 200 ") and b"slow" in said and said.count(b"HTTP/1.1 ") == 1

    with_server(story, parrot=Parrot(gate=lambda: gate.wait(5)))


def test_a_client_that_goes_away_behind_a_second_request_is_cancelled_too() -> None:
    gate = threading.Event()

    async def story(serving: Serving) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(post({"inputs": "a b c d"}) + PING)
        await until(lambda: serving.line.running)
        writer.close()
        await until(lambda: not serving.line.running)
        gate.set()

        assert serving.visits[0].code == 499

    with_server(story, parrot=Parrot(gate=lambda: gate.wait(5)))


@pytest.mark.parametrize("behind", [b"\x00garbage\r\n\r\n", post({"inputs": "waits"}) + b"\x00garbage\r\n\r\n"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_request_is_answered_whatever_comes_behind_it_and_then_all_ends(begun: bool, behind: bytes) -> None:
    steps = threading.Semaphore(1 if begun else 0)

    async def story(serving: Serving) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(post({"inputs": "a b c", "stream": True}))
        head = await reader.readuntil(b"\r\n\r\n") if begun else b""
        writer.write(behind)
        await asyncio.sleep(0.05)
        writer.write(b"\x00more of it")
        steps.release(100)
        said = head + await reader.read()
        writer.close()

        assert said.startswith(b"HTTP/1.1 200 ") and said.count(b"HTTP/1.1") == 1
        assert said.endswith(b"\r\n0\r\n\r\n") and b'"a b c"' in said
        assert [(visit.code, visit.error) for visit in serving.visits] == [(200, None)]

    with_server(story, parrot=Parrot(gate=lambda: steps.acquire(timeout=5)))


def test_a_body_that_is_no_http_is_a_400_for_the_client_and_the_log() -> None:
    async def story(serving: Serving) -> None:
        said = await talk(
            serving.port, b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"zz\r\n{}"
        )
        await until(lambda: len(serving.visits) == 1)

        assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1") == 1
        assert (serving.visits[0].code, serving.visits[0].error) == (400, "the request is not sound HTTP")

    with_server(story)


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True])
def test_an_offer_to_upgrade_is_answered_in_http_1_and_the_connection_goes_on(chunked: bool) -> None:
    async def story(serving: Serving) -> None:
        offer = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAAP__")
        asked = post({"inputs": "java"}, *offer)
        if chunked:
            head, _, body = asked.partition(b"\r\n\r\n")
            head = head.replace(b"content-length: 18", b"transfer-encoding: chunked")
            asked = head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        whole = await talk(serving.port, asked + PING, replies=2)
        parts = await talk(serving.port, asked[:40], asked[40:-7], asked[-7:], PING, replies=2)

        for said in (whole, parts):
            assert said.startswith(b"HTTP/1.1 200 ") and b"java" in said and said.count(b"HTTP/1.1 200 ") == 2

    with_server(story)


@pytest.mark.parametrize("expecting", [(), (b"expect: 100-continue",)], ids=["plain", "expecting"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_of_http_1_0_gets_no_chunks_and_its_reply_ends_with_the_connection(
    streamed: bool, expecting: tuple[bytes, ...]
) -> None:
    async def story(serving: Serving) -> None:
        document = {"inputs": "a b c", "stream": streamed}
        new = await serving.ask(document)
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(post(document, *expecting).replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, old = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()

        assert head.startswith(b"HTTP/1.1 200 ") and b"connection: close" in head
        assert b"transfer-encoding" not in head and old == new.content
        assert ("transfer-encoding" in new.headers) is streamed

    with_server(story)


def test_what_a_client_expects_is_told_before_its_body_is_read() -> None:
    async def story(serving: Serving) -> None:
        head, _, body = post({"inputs": "a"}, b"expect: 100-continue").partition(b"\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(head + b"\r\n\r\n")

        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        await reader.readline()
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()

    with_server(story)


def test_a_thousand_connections_that_say_nothing_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.5)

    async def story(serving: Serving) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", serving.port) for _ in range(400)]
        for number, (_, writer) in enumerate(silent):
            writer.write(b"POST /invocations HTTP/1.1\r\nhost: x\r\n"[: number % 40])

        assert (await serving.ask({"inputs": "still here"})).status_code == 200
        assert [await asyncio.wait_for(reader.read(), 5) for reader, _ in silent] == [b""] * 400
        for _, writer in silent:
            writer.close()

    with_server(story)


class Wire(asyncio.Transport):
    """Takes down what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.done.append(bytes(data))

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def is_closing(self) -> bool:
        return False


def test_what_is_written_in_one_turn_leaves_together_and_nothing_is_lost_by_closing() -> None:
    async def story() -> None:
        wire = Wire()
        gathered = Gathered(wire, asyncio.get_running_loop())
        gathered.write(b"head ")
        gathered.write(b"body")
        assert wire.done == []
        await asyncio.sleep(0)
        gathered.write(b"at once")
        gathered.flush()
        gathered.flush()
        assert wire.done == [b"head body", b"at once"]
        gathered.write(b"the end")
        gathered.close()
        gathered.write(b"lost")
        gathered.abort()
        await asyncio.sleep(0)

        assert wire.done == [b"head body", b"at once", b"the end", "close", "abort"]

    asyncio.run(story())


def test_a_name_in_braces_is_a_name_like_any_other() -> None:
    asked: list[str] = []

    def desk(scope: Scope) -> app.Desk:
        asked.append(scope["path_params"]["model"])
        raise Refused(404, "no such model")

    async def replies() -> list[int]:
        ask = app.Ask(desk, body.Bodies(), lambda visit: None)
        routes = [Route("/models/{model}/invoke", ask, methods=["POST"])]
        server = httpx.ASGITransport(app.build(lambda: (True, {}), list, lambda: b"", routes))
        async with httpx.AsyncClient(transport=server, base_url="http://server") as client:
            return [(await client.post(f"/models/{name}/invoke")).status_code for name in ("one", "%7Bmodel%7D")]

    assert asyncio.run(replies()) == [404, 404]
    assert asked == ["one", "{model}"]
