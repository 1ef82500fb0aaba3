"""Ranges over HTTP: what comes whole is taken, everything else is said."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import ClassVar

import pytest

from heavylift_runtime.native import line as line_module
from heavylift_runtime.native.ranges import Broken, Located, Ranges

CONTENT = bytes(range(256)) * 64


class Store(BaseHTTPRequestHandler):
    """An object that behaves as the first part of its path says."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connections: ClassVar[set[tuple[str, int]]] = set()

    def do_GET(self) -> None:
        self.connections.add(self.client_address)
        manner = self.path.split("/")[1].partition("?")[0]
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        part = CONTENT[int(first) : int(last) + 1]
        if manner == "silent":
            self.close_connection = True
            return
        self.send_response({"refused": 403, "busy": 503, "ignored": 200, "moved": 301}.get(manner, 206))
        part = (
            CONTENT
            if manner == "ignored"
            else part[:-1]
            if manner == "cut"
            else part + b"!"
            if manner == "longer"
            else part
        )
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part[:-1] if manner == "broken" else part)
        self.close_connection = manner == "broken"

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # who reads hangs up in the midst of what it does not want
            super().handle()


@pytest.fixture
def store() -> Iterator[str]:
    Store.connections = set()
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_ranges_come_over_one_connection_and_straight_into_memory(store: str) -> None:
    ranges, buffer = Ranges(lambda name: (f"{store}/{name}?signature=x", {})), bytearray(1000)

    for start in (0, 5000, len(CONTENT) - 1000):
        ranges.read("whole", start, [memoryview(buffer)])

        assert buffer == CONTENT[start : start + 1000]
    assert len(Store.connections) == 1


def test_one_range_fills_several_places(store: str) -> None:
    ranges, places = Ranges(lambda name: (f"{store}/{name}", {})), [bytearray(size) for size in (10, 1, 300)]

    ranges.read("whole", 77, [memoryview(place) for place in places])

    assert b"".join(places) == CONTENT[77:388]


def noted(store: str) -> tuple[Ranges, list[str]]:
    """A store's ranges, and the files that were located for them."""
    located: list[str] = []

    def locate(name: str) -> Located:
        located.append(name)
        return f"{store}/{name}", {}

    return Ranges(locate), located


def test_a_file_is_located_once_for_all_threads(store: str) -> None:
    def read(start: int) -> bytes:
        buffer = bytearray(9)
        ranges.read("whole", start, [memoryview(buffer)])
        together.wait(10)  # so that no thread reads twice
        return bytes(buffer)

    (ranges, located), together = noted(store), threading.Barrier(4)
    ranges.read("whole", 0, [memoryview(bytearray(1))])
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(4))) == [CONTENT[start : start + 9] for start in range(4)]

    assert (located, len(Store.connections)) == (["whole"], 5)


@pytest.mark.parametrize(
    ("manner", "sentence", "status"),
    [
        ("refused", "answers 403 Forbidden", 403),
        ("busy", "answers 503 Service Unavailable", 503),
        ("ignored", "answers 200 OK", 200),
        ("moved", "answers 301 Moved Permanently", 301),
        ("cut", "answers 206 Partial Content", 206),
        ("longer", "answers 206 Partial Content", 206),
        ("broken", "ended before all of 1000 bytes came", None),
        ("silent", "broke off", None),
    ],
)
def test_what_is_not_the_whole_range_is_said_and_the_next_one_is_asked_for_anew(
    store: str, manner: str, sentence: str, status: int | None
) -> None:
    (ranges, located), buffer = noted(store), bytearray(1000)
    with pytest.raises(Broken, match=sentence) as caught:
        ranges.read(manner, 0, [memoryview(buffer)])
    assert caught.value.status == status

    for _ in range(2):
        ranges.read("whole", 7, [memoryview(buffer)])
        assert buffer == CONTENT[7:1007]
    with pytest.raises(Broken):
        ranges.read(manner, 0, [memoryview(buffer)])

    assert located == [manner, "whole", manner]


def test_nobody_there_is_said(store: str) -> None:
    ranges = Ranges(lambda name: (f"http://127.0.0.1:1/{name}", {}))

    with pytest.raises(Broken, match=r"127.0.0.1 broke off: ConnectionRefusedError"):
        ranges.read("whole", 0, [memoryview(bytearray(10))])


def test_behind_a_proxy_nothing_is_asked(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    ranges = Ranges(lambda name: (f"{store}/{name}", {}))

    with pytest.raises(Broken, match="is to be reached by a proxy"):
        ranges.read("whole", 0, [memoryview(bytearray(10))])
    assert not Store.connections


@contextmanager
def saying(answer: bytes) -> Iterator[tuple[str, list[bytes], set[object]]]:
    """A server that answers each request with these bytes and waits for the next, what it was asked, and by whom."""
    asked: list[bytes] = []
    callers: set[object] = set()

    class Says(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(ConnectionError):
                while request := self.request.recv(10000):
                    asked.append(request)
                    callers.add(self.client_address)
                    self.request.sendall(answer)
                    if b"hang up" in answer:
                        return

    with ThreadingTCPServer(("127.0.0.1", 0), Says) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked, callers
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 206 OK\r\n\r\n0123456789", "answers 206 OK"),
        (b"HTTP/1.1 206 OK\r\nContent-Length: 10\r\nContent-Length: 11\r\n\r\n0123456789", "answers 206 OK"),
        (b"HTTP/1.1 206 OK\r\nContent-Length: +10\r\n\r\n0123456789", "answers 206 OK"),
        (b"HTTP/1.1 206 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n0123456789", "answers 206 OK"),
        (b"HTTP/1.1 206 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "broke off: ValueError"),
        (b"HTTP/1.1 206\r\nContent-Length: 9\r\n\r\n012345678", "answers 206 $"),
        (b"HTTP/2 206 OK\r\n\r\n", "begins with 'HTTP/2 206 OK'"),
        (b"HTTP/1.1 \xb2 OK\r\n\r\n", "broke off: ValueError"),
        (b"+OK POP3 server ready\r\n\r\n", "begins with"),
        (b"\r\n\r\n", "begins with ''"),
        (b"x" * 80000, "more than 65536 bytes"),
        (b"HTTP/1.1 206 OK\r\nhang up", "closed without an answer"),
    ],
)
def test_what_is_no_answer_is_said(answer: bytes, sentence: str) -> None:
    with saying(answer) as (address, *_), pytest.raises(Broken, match=sentence):
        Ranges(lambda name: (f"{address}/{name}", {})).read("any", 0, [memoryview(bytearray(10))])


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 206 OK\r\nconnection: Close", b"HTTP/1.0 206 OK", b"HTTP/1.1 206 OK\r\nConnection: x, close"],
)
def test_a_connection_that_the_other_side_ends_is_opened_anew(head: bytes) -> None:
    with saying(head + b"\r\ncontent-length:10\r\n\r\n0123456789") as (address, asked, callers):
        ranges, buffer = Ranges(lambda name: (f"{address}/{name}", {})), bytearray(10)
        for _ in range(3):
            ranges.read("any", 0, [memoryview(buffer)])

    assert buffer == b"0123456789"
    assert (len(asked), len(callers)) == (3, 3)


def test_bytes_behind_an_answer_are_not_taken_for_the_next_one() -> None:
    with saying(b"HTTP/1.1 206 OK\r\nContent-Length: 10\r\n\r\n0123456789and more") as (address, *_):
        ranges = Ranges(lambda name: (f"{address}/{name}", {}))
        ranges.read("any", 0, [memoryview(bytearray(10))])

        with pytest.raises(Broken, match="goes on behind its end"):
            ranges.read("any", 0, [memoryview(bytearray(10))])


@pytest.mark.parametrize(
    ("path", "headers"),
    [("a b", {}), ("a\x7f", {}), ("☃", {}), ("a", {"If-Match": '"0"\r\nHost: elsewhere'}), ("a", {"X": "☃"})],
)
def test_an_address_or_header_that_would_say_more_than_itself_is_never_sent(
    path: str, headers: Mapping[str, str]
) -> None:
    with saying(b"HTTP/1.1 206 OK\r\nContent-Length: 10\r\n\r\n0123456789") as (address, asked, _):
        with pytest.raises(Broken, match=r"broke off: .*Error"):
            Ranges(lambda name: (f"{address}/{path}", headers)).read("any", 0, [memoryview(bytearray(10))])

        assert not asked


@pytest.mark.parametrize("answer", [b"HTTP/1.1 206 OK\r\n", b"HTTP/1.1 206 OK\r\nContent-Length: 10\r\n\r\n01234"])
def test_a_server_that_falls_silent_is_not_waited_for_for_ever(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "TIMEOUT", 0.2)

    with saying(answer) as (address, *_), pytest.raises(Broken, match="TimeoutError"):
        Ranges(lambda name: (f"{address}/{name}", {})).read("any", 0, [memoryview(bytearray(10))])
