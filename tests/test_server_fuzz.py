"""Ten thousand malformed requests, and hundreds of malformed connections: no crash, and no client's fault is a 5xx.

Seeded, so that a failure comes again. The mass goes to the ASGI application; what only bytes on a socket can say
(half headers, broken chunks, endless lines) goes through the real HTTP protocol.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from typing import Any

import pytest

from heavylift_runtime.server import app, body, patience
from tests.in_process import Serving, with_server
from tests.stepping import Parrot

pytestmark = pytest.mark.slow

REQUESTS, CONNECTIONS = 10_000, 400
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
VALID: tuple[dict[str, Any], ...] = (
    {"inputs": "a b c", "parameters": {"max_new_tokens": 3, "details": True, "temperature": 0.7, "seed": 1}},
    {"inputs": ["a", "b c"], "parameters": {"stop": ["x"], "top_k": 5, "do_sample": True}, "stream": False},
    {"inputs": "a b", "stream": True},
    {"model": "model", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "stream": True},
    {"model": "model", "prompt": ["a", "b"], "n": 2, "logprobs": 1, "max_tokens": 2},
)
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 10**30, 2**63, "", " ", "a", "\ud800", "\x00", "é" * 300,
    [], [[]], {}, {"a": {}}, ["a", 1], [None], "NaN", "true", list(range(300)), {"role": "user"},
    [{"role": "x", "content": 3}],
)  # fmt: skip
TYPES = (
    "application/json; charset=latin-1",
    "text/plain",
    "text/csv",
    "",
    ";",
    "multipart/form-data",
)
ACCEPTS = ("*/*", "application/json", "text/event-stream", "application/jsonlines", "image/png", "", ",,;q=")


def mutated(dice: random.Random, value: Any, depth: int = 0) -> Any:
    """A value with something odd in it."""
    if depth > 4 or dice.random() < 0.25:
        return dice.choice(ODD)
    if isinstance(value, dict) and value:
        changed = dict(value)
        name = dice.choice(list(changed))
        match dice.randrange(4):
            case 0:
                del changed[name]
            case 1:
                changed[dice.choice([name + "s", name.upper(), "", "inputs", "stream", "\ud800", "parameters"])] = 1
            case _:
                changed[name] = mutated(dice, changed[name], depth + 1)
        return changed
    if isinstance(value, list) and value:
        changed_list = list(value)
        changed_list[dice.randrange(len(value))] = mutated(dice, value[0], depth + 1)
        return changed_list
    return dice.choice(ODD)


def content(dice: random.Random) -> bytes:
    """A body: a valid one, one with something odd, or broken bytes."""
    document = dice.choice(VALID)
    for _ in range(dice.randrange(4)):
        document = mutated(dice, document)
    data = json.dumps(document).encode()
    match dice.randrange(8):
        case 0:
            return data[: dice.randrange(len(data) + 1)]
        case 1:
            at = dice.randrange(len(data) + 1)
            return data[:at] + dice.randbytes(dice.randrange(1, 9)) + data[at:]
        case 2:
            return dice.randbytes(dice.randrange(200))
        case 3:
            return dice.choice(
                [b"[" * 20_000, b'{"inputs":' * 5_000, b"\xff\xfe{}", b"1e999", b"NaN", b'"\\ud800"', b""]
            )
    return data


def seldom(dice: random.Random, usual: str, odd: tuple[str, ...]) -> str:
    """The usual one, but for one time in twenty."""
    return dice.choice(odd) if dice.random() < 0.05 else usual


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


def test_ten_thousand_malformed_requests_get_no_5xx_and_the_next_good_one_is_answered() -> None:
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


def wire(dice: random.Random) -> bytes:
    """What a hostile, or only broken, client writes on a connection."""
    line = dice.choice(
        [
            b"POST /invocations HTTP/1.1",
            b"GET /ping HTTP/1.1",
            b"POST /invocations HTTP/9.9",
            b"\x16\x03\x01\x02",
            b"",
            b"GET",
        ]
    )
    fields = [b"host: x"]
    match dice.randrange(9):
        case 0:
            fields.append(b"x-long: " + b"a" * dice.choice([9_000, 70_000, 300_000]))
        case 1:
            fields += [b"x-%d: y" % number for number in range(dice.choice([10, 3_000]))]
        case 2:
            fields.append(b"transfer-encoding: chunked")
            bad = [b"zz\r\n", b"5\r\nab", b"ffffffffffffffff\r\n", b"-1\r\n", b"3\r\nabcde\r\n0\r\n\r\n", b"0\r\n"]
            return b"\r\n".join([line, *fields, b"", dice.choice(bad)])
        case 3:
            fields += [b"content-length: " + dice.choice([b"-5", b"x", b"5, 6", b"1e3", b"99999999999999999999", b""])]
        case 4:
            fields += [b"content-length: 5", b"transfer-encoding: chunked"]
        case 5:
            fields.append(dice.choice([b"no colon", b": none", b"a b: c", b"x: \x00", b" folded: y", b"host: two"]))
        case 6:
            fields.append(b"expect: 100-continue")
        case 7:
            return line + b"\r\n" + b"\r\n".join(fields)  # and never the end
        case _:
            fields += [b"content-type: application/json", b"content-length: 40"]
            return b"\r\n".join([line, *fields, b"", content(dice)[: dice.randrange(40)]])
    return b"\r\n".join([line, *fields, b"", content(dice)])


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
