"""The door to a container, without the embedded AWS: its time limits, and the frames of a stream."""

from __future__ import annotations

import asyncio
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from heavylift.local.plugin import eventstream, invoke, seams
from heavylift.local.plugin.deployment import Served, Variant


class Slow(socketserver.BaseRequestHandler):
    """A container that answers the headers and one part, or nothing, and then falls silent until its caller leaves."""

    def handle(self) -> None:
        """Read the request; say as much as the path of the test wants."""
        request = self.request.recv(65536)
        if b"silent" not in request:
            self.request.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        while self.request.recv(65536):
            pass


@pytest.fixture
def port() -> Iterator[int]:
    """The slow container's port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def answer(port: int, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body that the door gives for one request to an endpoint on `port`."""
    container: Any = SimpleNamespace(port=port, log=Path("0001.log"), alive=lambda: True, models=None)
    served = Served.begin(Variant({"VariantName": "A"}, {}), container, None, frozenset())
    endpoint = SimpleNamespace(served={"A": served}, status="InService", serving=None)
    endpoints: Any = SimpleNamespace(find=lambda name: endpoint)
    sent: list[Any] = []

    async def exchange() -> None:
        pending = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            return pending.pop() if pending else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"method": "POST", "path": path, "headers": []}
        await invoke.Invocations(endpoints, endpoints).serve(scope, receive, send)

    asyncio.run(exchange())
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty seconds that pass in a quarter of one."""
    monkeypatch.setattr(invoke, "MAX_SECONDS", 0.25)
    monkeypatch.setattr(seams, "put_metric", lambda *_: None)  # CloudWatch is the daemon's, and there is none here


@pytest.mark.parametrize("body", [b"silent", b"one part"])
def test_a_container_that_takes_too_long_is_a_model_error(port: int, short: None, body: bytes) -> None:
    status, reply = answer(port, "/endpoints/e/invocations", body)

    assert status == 424
    assert json.loads(reply)["__type"] == "ModelError"
    assert "no answer within 0.25 s" in json.loads(reply)["OriginalMessage"]


def test_a_stream_that_falls_silent_ends_in_a_model_stream_error(port: int, short: None) -> None:
    status, reply = answer(port, "/endpoints/e/invocations-response-stream", b"one part")

    buffer = EventStreamBuffer()
    buffer.add_data(reply)
    *first, last = (event.to_response_dict() for event in buffer)
    assert status == 200
    assert b"".join(part["body"] for part in first) == b"first"
    assert last["headers"][":exception-type"] == "ModelStreamError"
    assert json.loads(last["body"])["ErrorCode"] == "ModelInvocationTimeExceeded"


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_botocore_reads_back_every_frame(parts: list[bytes]) -> None:
    buffer = EventStreamBuffer()

    buffer.add_data(b"".join(eventstream.part(part) for part in parts))

    events = [event.to_response_dict() for event in buffer]
    assert [event["body"] for event in events] == parts
    assert {event["headers"][":event-type"] for event in events} == {"PayloadPart"}


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_a_part_ends_within_a_character_where_there_is_one_of_several_bytes(text: str) -> None:
    parts = eventstream.cut(text.encode())

    assert b"".join(parts) == text.encode() and all(parts)
    if not text.isascii():
        with pytest.raises(UnicodeDecodeError):
            parts[0].decode()
