"""Ranges by signed URLs: what comes whole is taken, everything else is left to botocore."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from heavylift_runtime.native.ranges import Ranges

CONTENT = bytes(range(256)) * 64


class Store(BaseHTTPRequestHandler):
    """An object that behaves as the first part of its path says."""

    protocol_version = "HTTP/1.1"
    connections: ClassVar[set[tuple[str, int]]] = set()

    def do_GET(self) -> None:
        self.connections.add(self.client_address)
        manner = self.path.split("/")[1].partition("?")[0]
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        part = CONTENT[int(first) : int(last) + 1]
        self.send_response({"refused": 403, "ignored": 200, "moved": 301}.get(manner, 206))
        self.send_header("Content-Length", str(len(part) + (manner in ("cut", "longer"))))
        self.end_headers()
        self.wfile.write(part if manner != "longer" else part + b"!")
        if manner == "cut":
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def store() -> Iterator[str]:
    Store.connections = set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_ranges_come_over_one_connection_and_straight_into_memory(store: str) -> None:
    ranges, buffer = Ranges(lambda name: f"{store}/{name}?signature=x"), bytearray(1000)

    for start in (0, 5000, len(CONTENT) - 1000):
        assert ranges.read("whole", start, memoryview(buffer))

        assert buffer == CONTENT[start : start + 1000]
    assert len(Store.connections) == 1
    ranges.close()


@pytest.mark.parametrize("manner", ["refused", "ignored", "moved", "cut", "longer"])
def test_what_is_not_the_whole_range_is_left_to_botocore(store: str, manner: str) -> None:
    ranges, buffer = Ranges(lambda name: f"{store}/{name}"), bytearray(1000)

    assert not ranges.read(manner, 0, memoryview(buffer))
    assert ranges.read("whole", 7, memoryview(buffer)) and buffer == CONTENT[7:1007]
    ranges.close()


def test_nobody_there_is_left_to_botocore(store: str) -> None:
    ranges = Ranges(lambda name: f"http://127.0.0.1:1/{name}")

    assert not ranges.read("whole", 0, memoryview(bytearray(10)))


def test_behind_a_proxy_botocore_reads(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    ranges = Ranges(lambda name: f"{store}/{name}")

    assert not ranges.read("whole", 0, memoryview(bytearray(10))) and not Store.connections
