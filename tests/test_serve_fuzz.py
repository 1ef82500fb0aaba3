"""Ten thousand malformed requests over sockets, to the real server process and tiny-t5: no crash, no client's fault a
5xx, nothing left behind. What can be tried in process, with shorter patience, is in test_server_fuzz.py."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httptools
import httpx
import pytest

from tests.malformed import Hostile, hostile
from tests.served import Served, eventually, serving, write_native

pytestmark = pytest.mark.slow

REQUESTS = 10_000
SEED = 20261121
CLIENTS = 24
GROWTH = 32 * 2**20
"""Bytes that a process may have more after them all than after the first tenth; it was 5 to 7 MiB."""


@dataclass
class Replies:
    """What came back on a connection, read by a parser that takes no liberties."""

    codes: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    whole: int = 0

    def on_headers_complete(self) -> None:
        self.codes.append(self.parser.get_status_code())
        self.bodies.append(b"")

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body

    def on_message_complete(self) -> None:
        self.whole += self.codes[-1] != 100

    def __post_init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)


async def connect(port: int, sent: Hostile) -> Replies:
    """Write, read to the end, and leave as this client does."""
    replies, read = Replies(), 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in sent.parts:
            writer.write(part)
            if len(sent.parts) > 1:
                await asyncio.sleep(0.001)
        await writer.drain()
        if sent.ends:
            with suppress(TimeoutError):  # what the server says by itself
                replies.parser.feed_data(await asyncio.wait_for(reader.read(2**16), 0.02))
            writer.write_eof()
        while sent.cut is None or read < sent.cut:
            data = await asyncio.wait_for(reader.read(2**16 if sent.cut is None else sent.cut - read), 60)
            if not data:
                break
            read += len(data)
            replies.parser.feed_data(data)
        if sent.cut is not None:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except TimeoutError:
        raise
    except OSError:  # it may hang up at any time
        pass
    finally:
        writer.close()
    return replies


async def attack(port: int, first: int, count: int) -> Counter[str]:
    """`count` requests or more, from connection number `first` on; how many were answered how."""
    seen = Counter[str]()
    numbers = iter(range(first, first + 10 * count))

    async def client() -> None:
        while seen["refused"] + seen["hung up on"] < count:
            number = next(numbers)
            sent = hostile(random.Random(SEED * 1_000_003 + number))
            where = f"connection {number}, {sent.kind}: {b''.join(sent.parts)[:400]!r}"
            replies = await connect(port, sent)
            for code, body in zip(replies.codes, replies.bodies, strict=True):
                assert code == 100 or 200 <= code < 300 or 400 <= code < 500, f"{code} {body[:200]!r} for {where}"
                seen["refused" if code >= 400 else "answered"] += code != 100
                assert code < 400 or body == b"Invalid HTTP request received." or json.loads(body), where
            assert sent.wants is None or replies.whole == sent.wants, f"{replies} for {where}"
            seen["hung up on"] += not replies.codes
            seen[sent.kind] += 1

    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(client())
    return seen


@pytest.fixture(scope="module")
def native(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_native(tiny_t5, tmp_path_factory.mktemp("fuzzed") / "model")) as served:
        yield served


def resident(pid: int) -> int:
    """Bytes in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.timeout(600)
def test_ten_thousand_malformed_requests_over_sockets_harm_nobody(native: Served) -> None:
    processes = [native.process.pid, *native.ranks()]
    open_before = descriptors(native.process.pid)

    asyncio.run(attack(native.port, 0, REQUESTS // 10))
    before = [resident(pid) for pid in processes]
    seen = asyncio.run(attack(native.port, 10 * REQUESTS, REQUESTS))
    after = [resident(pid) for pid in processes]

    assert seen["answered"] > REQUESTS / 20 and seen["refused"] > REQUESTS / 2, seen
    assert native.ask({"inputs": "write in words: 298"}).json()["outputs"] == ["two hundred and ninety-eight"]
    state = eventually(lambda: idle(native))
    assert state["waiting"] == 0 and processes == [native.process.pid, *native.ranks()]
    assert all(late < early + GROWTH for early, late in zip(before, after, strict=True)), (before, after)
    eventually(lambda: descriptors(native.process.pid) <= open_before + 2)
    assert 'heavylift_copy_restarts_total{model="model"} 0.0' in httpx.get(f"{native.address}/metrics").text
    assert "Traceback" not in native.errors.read_text()


def idle(served: Served) -> dict[str, int]:
    """The body of /ping, once nothing runs."""
    state: dict[str, int] = httpx.get(f"{served.address}/ping").json()
    return {} if state["running"] else state
