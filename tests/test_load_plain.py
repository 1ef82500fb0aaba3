"""`plain sockets` of benchmarks/load.py: all bytes, and an end where the server hangs up. Not a measurement."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from heavylift_runtime.native import heap

SIDE = Path(__file__).resolve().parent.parent / "benchmarks" / "sides" / "load_rank.py"
CONTENT = bytes(range(251)) * 40_000
"""Ten million bytes: more than one block."""


@pytest.fixture(scope="module")
def side() -> ModuleType:
    spec = importlib.util.spec_from_file_location("load_rank", SIDE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server(BaseHTTPRequestHandler):
    """One file's ranges; it hangs up in a reply's head or body where `until` says so."""

    protocol_version = "HTTP/1.1"
    until = "end"

    def do_HEAD(self) -> None:
        self.send_response(404 if self.until == "nothing" else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def do_GET(self) -> None:
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        self.close_connection = self.until != "end"
        if self.until == "head":
            self.wfile.write(b"HTTP/1.1 206 Partial Cont")
            return
        self.send_response(206)
        self.end_headers()
        self.wfile.write(CONTENT[first : last + 1][: 1000 if self.until == "body" else None])

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def served(until: str) -> Iterator[str]:
    """The URL of a server that hangs up then."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hangs", (Server,), {"until": until}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_ranks_read_all_bytes_between_them(side: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[Tensor] = []

    made = heap.Region.room

    def kept(region: heap.Region, count: int, dtype: torch.dtype) -> Tensor:
        rooms.append(made(region, count, dtype))
        return rooms[-1]

    monkeypatch.setattr(heap.Region, "room", kept)
    with served("end") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)

        shares = [side.plain("s3://b/whole/", rank, 2, "")() for rank in range(2)]

    assert b"".join(room.numpy().tobytes() for room in rooms) == CONTENT
    assert shares == [room.nbytes for room in rooms]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("until", "fault"),
    [("head", "closed the connection in a reply's head"), ("body", "bytes too early"), ("nothing", "404 Not Found")],
)
def test_a_server_that_hangs_up_is_a_fault_and_no_wait(
    side: ModuleType, monkeypatch: pytest.MonkeyPatch, until: str, fault: str
) -> None:
    with served(until) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)

        with pytest.raises(AssertionError, match=fault):
            side.plain("s3://b/whole/", 0, 1, "")()
