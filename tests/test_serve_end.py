"""Replies without a body, and requests that never end: what is on the wire, and how long a stop takes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.served import eventually, serving, write_script

SCRIPT = """
import time
from djl_python import Output

def chunks():
    yield b"never sent"

def forever():
    for number in range(10_000):
        yield {"number": number}
        time.sleep(0.05)

def handle(inputs):
    if inputs.is_empty():
        return None
    asked = inputs.get_as_json()
    if asked["do"] == "nothing":
        return None
    if asked["do"] == "empty":
        return Output(code=asked["code"]).add_property("content-length", "7").add("a body")
    if asked["do"] == "stream nothing":
        return Output(code=asked["code"]).add_stream_content(chunks(), None)
    if asked["do"] == "stream":
        return Output().add_stream_content(forever())
    time.sleep(3600)
"""
pytestmark = pytest.mark.slow
DRAIN = 1
"""Seconds, instead of 22: the test's own, the rest is as in the container."""
ENTRY = f"""
import heavylift_runtime.serve as serve
from heavylift_runtime.__main__ import main
serve.DRAIN_SECONDS = {DRAIN}
raise SystemExit(main())
"""


@pytest.mark.parametrize(
    "asked",
    [
        b'{"do": "nothing"}',
        b'{"do": "empty", "code": 204}',
        b'{"do": "empty", "code": 304}',
        b'{"do": "stream nothing", "code": 204}',
        b'{"do": "stream nothing", "code": 304}',
    ],
)
def test_a_reply_without_a_body_has_neither_its_length_nor_chunks_and_the_connection_goes_on(
    echo: int, asked: bytes
) -> None:
    request = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(asked), asked)
    with socket.create_connection(("127.0.0.1", echo), 10) as client:
        client.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        client.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        rest = b""
        while data := client.recv(4096):
            rest += data

    first, _, behind = head.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 (204|304) ", first)
    assert b"content-length" not in first.lower() and b"transfer-encoding" not in first.lower()
    assert behind == b"" and rest.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(write_script(tmp_path_factory.mktemp("echo") / "model", SCRIPT)) as served:
        yield served.port


@contextmanager
def impatient(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The server with a drain of a second, and its port, once it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", ENTRY, "serve", str(folder), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(folder.parent)},
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            found = re.search(r"http://\S+:(\d+)", process.stdout.readline())
            assert found is not None
            port = int(found[1])
            eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/ping").status_code == 200)
            yield process, port
        finally:
            process.kill()


def stop(process: subprocess.Popen[str]) -> tuple[int, float]:
    """Exit code and seconds."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    return process.wait(30), time.monotonic() - began


def test_a_request_that_never_ends_is_refused_when_the_time_to_drain_is_over(tmp_path: Path) -> None:
    with impatient(write_script(tmp_path / "model", SCRIPT)) as (process, port), ThreadPoolExecutor(1) as clients:
        url = f"http://127.0.0.1:{port}"
        stuck = clients.submit(httpx.post, f"{url}/invocations", json={"do": "sleep"}, timeout=30)
        eventually(lambda: httpx.get(f"{url}/ping").json()["running"])

        code, seconds = stop(process)

        assert (code, stuck.result().status_code) == (0, 503)
        assert "the server stops" in stuck.result().json()["error"]
        assert seconds >= DRAIN  # and within the 30 that SageMaker gives: 22 are the drain's
        assert not list(tmp_path.glob("heavylift-*"))


def test_a_stream_that_never_ends_is_ended_whole_when_the_time_to_drain_is_over(tmp_path: Path) -> None:
    with impatient(write_script(tmp_path / "model", SCRIPT)) as (process, port):
        with httpx.stream("POST", f"http://127.0.0.1:{port}/invocations", json={"do": "stream"}, timeout=30) as reply:
            lines = reply.iter_lines()
            next(lines)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            *_, last = lines  # httpx raises where the last chunk is missing
        code, seconds = process.wait(30), time.monotonic() - began

        assert (code, reply.status_code) == (0, 200)
        assert "the server stops" in last
        assert seconds >= DRAIN


def test_a_body_that_never_ends_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with (
        impatient(write_script(tmp_path / "model", SCRIPT)) as (process, port),
        socket.create_connection(("127.0.0.1", port), 30) as client,
    ):
        client.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert httpx.get(f"http://127.0.0.1:{port}/ping").status_code == 200

        code, seconds = stop(process)

        assert code == 0 and seconds < 30
        said = b""
        while data := client.recv(4096):
            said += data
        assert said.startswith(b"HTTP/1.1 503 ")
