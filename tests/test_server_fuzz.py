"""Malformed requests and connections in this process, where what a real server waits for takes no time: clients that
leave before they are answered, bodies in parts, heads and bodies that never end. The mass is in test_serve_fuzz.py."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from heavylift_runtime.server import app, body, patience
from tests.in_process import Serving, with_server
from tests.malformed import ACCEPTS, TYPES, content, seldom, wire
from tests.stepping import Parrot

pytestmark = pytest.mark.slow

REQUESTS, CONNECTIONS = 2000, 400
AT_THE_DOOR = (404, 405, 406, 415, 499)
"""Refused for the head alone, or left by the client: what the body said was not looked at."""
METHODS = ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "poST", "\x00")
PATHS = (
    "/ping",
    "/metrics",
    "/v1/models",
    "/v1/models/x",
    "/none",
    "//",
    "/invocations/",
    "/%00",
)


def headers(dice: random.Random) -> list[tuple[bytes, bytes]]:
    """Headers of a request, some of them wrong."""
    kind, wish = seldom(dice, "application/json", TYPES), seldom(dice, "*/*", ACCEPTS)
    made = [(b"host", b"x"), (b"content-type", kind.encode()), (b"accept", wish.encode())]
    if dice.random() < 0.2:
        made.append(
            (b"x-amzn-sagemaker-custom-attributes", dice.choice([b"route=/generate", b"a=b;;=", b"\xff\xff", b""]))
        )
    if dice.random() < 0.1:
        made.append((b"x-amzn-sagemaker-inference-id", dice.randbytes(dice.choice([1, 20, 300]))))
    if dice.random() < 0.1:
        made.append((b"x-amzn-sagemaker-session-id", dice.choice([b"NEW_SESSION", b"?", b""])))
    if dice.random() < 0.05:
        made.append((b"content-length", b"99999999999"))
    return made


async def send(application: Any, dice: random.Random) -> tuple[int, str]:
    """One request to the ASGI application: its status, and what was asked, for a failure's message."""
    method, path = seldom(dice, "POST", METHODS), seldom(dice, dice.choice(app.PATHS), PATHS)
    data, given = content(dice), headers(dice)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": b"",
        "query_string": dice.choice([b"", b"a=b", b"\xff=%ff"]), "headers": given, "scheme": "http",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "root_path": "",
    }  # fmt: skip
    chunks = [data[:7], data[7:]] if dice.random() < 0.3 else [data]
    leaves = dice.random() < 0.05
    sent: list[dict[str, Any]] = []
    finished = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if leaves and len(chunks) == 1:
            return {"type": "http.disconnect"}
        if chunks:
            return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
        await finished.wait()
        return {"type": "http.disconnect"}

    async def reply(message: dict[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive, reply)
    finished.set()
    status = next((message["status"] for message in sent if message["type"] == "http.response.start"), 499)
    return status, f"{method} {path} {given} {data[:300]!r}"


def test_malformed_requests_get_no_5xx_and_the_next_good_one_is_answered() -> None:
    async def story(serving: Serving) -> None:
        dice, seen = random.Random(20261121), Counter[int]()
        application = serving.app
        for _ in range(REQUESTS // 10):  # twice as many as are counted
            for status, asked in await asyncio.gather(*(send(application, dice) for _ in range(20))):
                assert 200 <= status < 500, f"{status} for {asked}"
                seen[status] += 1

        refused = sum(count for code, count in seen.items() if code >= 400 and code not in AT_THE_DOOR)
        assert refused >= REQUESTS and seen[200] > REQUESTS / 50, seen
        assert (await serving.ask({"inputs": "still here"})).json()["outputs"] == ["still here"]
        assert serving.line.waiting == serving.line.running == 0

    with_server(story, parrot=Parrot(capacity=8), limit=100, seconds=120)


async def connect(port: int, data: bytes, *, drip: bool) -> bytes:
    """Write it, whole or in drops, and read until the server has hung up or said nothing for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for at in range(min(len(data), 30)) if drip else ():
            writer.write(data[at : at + 1])
            await asyncio.sleep(0.002)
        writer.write(data[30:] if drip else data)
        await writer.drain()
        return await asyncio.wait_for(reader.read(65536), 2)
    except (ConnectionError, TimeoutError, RuntimeError):  # libuv's: the transport is closed
        return b""
    finally:
        writer.close()


def test_malformed_connections_are_answered_with_4xx_or_hung_up_on_and_ping_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(body, "BODY_SECONDS", 0.3)

    async def story(serving: Serving) -> None:
        dice = random.Random(7)
        for _ in range(CONNECTIONS // 20):
            written = [wire(dice) for _ in range(20)]
            replies = await asyncio.gather(*(connect(serving.port, data, drip=dice.random() < 0.3) for data in written))
            for data, reply in zip(written, replies, strict=True):
                status = reply.split(b" ")[1] if reply.startswith(b"HTTP/1.1 ") else b"none"
                assert reply == b"" or status[:1] in (b"2", b"4") or status == b"100", (
                    f"{reply[:200]!r} for {data[:300]!r}"
                )

        assert (await serving.ask({"inputs": "still here"})).status_code == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", serving.port)
        writer.write(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()

    with_server(story, limit=100, seconds=120)
