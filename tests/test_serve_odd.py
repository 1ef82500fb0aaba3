"""Odd clients and signals at the real server with tiny-t5 over two ranks. Heads and bodies: test_server_hostile.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from heavylift_runtime.errors import OptionsError
from heavylift_runtime.serve import serve_folder
from tests.served import Served, alive, eventually, serving, write_native, write_script

pytestmark = pytest.mark.slow

QUESTION, ANSWER = {"inputs": "write in words: 298"}, "two hundred and ninety-eight"
STREAMED = {**QUESTION, "stream": True, "parameters": {"max_new_tokens": 64}}


@pytest.fixture(scope="module")
def native(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = write_native(tiny_t5, tmp_path_factory.mktemp("odd") / "model", "option.tensor_parallel_degree=2\n")
    with serving(folder) as served:
        yield served


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), 60)


def post(document: object) -> bytes:
    body = json.dumps(document).encode()
    return b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def rest(client: socket.socket) -> bytes:
    said = b""
    while data := client.recv(65536):
        said += data
    return said


def rests(served: Served) -> bool:
    """Nothing runs any more, and the next question is answered."""
    eventually(lambda: httpx.get(f"{served.address}/ping").json()["running"] == 0)
    return bool(served.ask(QUESTION).json()["outputs"] == [ANSWER])


def test_two_hundred_connections_that_say_little_or_nothing_are_in_nobodys_way(native: Served) -> None:
    clients = [connect(native) for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(post(QUESTION)[: number % 40])

    assert native.ask(QUESTION).json()["outputs"] == [ANSWER] and native.ping() == 200
    for client in clients:
        client.close()


def test_a_head_alone_has_the_length_of_the_whole_and_no_body(native: Served) -> None:
    with connect(native) as client:
        client.sendall(b"HEAD /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        client.sendall(b"HEAD /invocations HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        said = rest(client)

    first, second, nothing = said.split(b"\r\n\r\n")
    length = len(httpx.get(f"{native.address}/v1/models").content)
    assert first.startswith(b"HTTP/1.1 200 ") and b"content-length: %d" % length in first
    assert second.startswith(b"HTTP/1.1 405 ") and nothing == b""


@pytest.mark.parametrize("body", [post(QUESTION), post(STREAMED), post(QUESTION)[:-3]], ids=["whole", "stream", "half"])
def test_a_client_that_closes_its_half_is_taken_for_gone(native: Served, body: bytes) -> None:
    with connect(native) as client:
        client.sendall(body)
        client.shutdown(socket.SHUT_WR)
        said = rest(client)  # the end of the connection, at the latest with the reply's

    assert said == b"" or said.startswith(b"HTTP/1.1 200 ")
    assert rests(native)


def test_connections_that_are_reset_in_a_stream_leave_nothing_running(native: Served) -> None:
    ranks = native.ranks()
    for number in range(40):
        with connect(native) as client:
            client.sendall(post(STREAMED))
            if number % 2:
                client.recv(100)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert rests(native) and native.ranks() == ranks


def test_ping_is_200_to_a_flood_of_them_beside_requests(native: Served) -> None:
    over = threading.Event()
    codes: set[int] = set()

    def flood() -> None:
        with httpx.Client(timeout=60) as client:
            while not over.is_set():
                codes.add(client.get(f"{native.address}/ping").status_code)

    with ThreadPoolExecutor(8) as clients:
        floods = [clients.submit(flood) for _ in range(4)]
        answers = list(clients.map(lambda _: native.ask(QUESTION).json()["outputs"], range(40)))
        over.set()
        for each in floods:
            each.result()

    assert answers == [[ANSWER]] * 40 and codes == {200}


LISTENS = """
import os, socket, time
from djl_python import Output

def listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True

def words(port):
    yield "before"
    while listening(port):
        time.sleep(0.02)
    yield "after"

def handle(inputs):
    return None if inputs.is_empty() else Output().add_stream_content(words(inputs.get_as_json()["port"]))
"""


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM] * 3, [signal.SIGHUP], [signal.SIGHUP, signal.SIGTERM]],
    ids=lambda each: "+".join(one.name for one in each),
)
def test_a_server_is_told_to_end_as_often_as_one_likes_and_finishes_its_streams(
    tmp_path: Path, signals: list[signal.Signals]
) -> None:
    with serving(write_script(tmp_path / "model", LISTENS)) as served:
        url = f"{served.address}/invocations"
        with httpx.stream("POST", url, json={"port": served.port}, timeout=60) as reply:
            lines = reply.iter_lines()
            said = [next(lines)]
            for each in signals:
                os.kill(served.process.pid, each)
            said += lines
        code, _ = served.end()

    assert said == ['{"outputs": "before"}', '{"outputs": "after"}'] and code == 0
    assert not list(tmp_path.glob("heavylift-*"))


@pytest.mark.parametrize("again", [1, 20])
def test_a_server_that_is_told_to_end_as_it_starts_ends_and_leaves_nothing(
    tiny_t5: Path, tmp_path: Path, again: int
) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "model")
    (folder / "serving.properties").write_text("engine=native\n")

    with serving(folder, wait=False) as served:
        for _ in range(again):
            if alive(served.process.pid):
                os.kill(served.process.pid, signal.SIGTERM)
        code, _ = served.end()

    assert code == 0 and not list(tmp_path.glob("heavylift-*"))


def test_a_server_that_is_to_outlive_its_terminal_does(tmp_path: Path) -> None:
    script = "def handle(inputs):\n    return None if inputs.is_empty() else {}\n"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup does, and what is started inherits it
    try:
        with serving(write_script(tmp_path / "model", script)) as served:
            os.kill(served.process.pid, signal.SIGHUP)

            assert served.ask({}).status_code == 200 and alive(served.process.pid)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_root_without_a_folder_for_temporary_files_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_script(tmp_path / "model", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))

    with pytest.raises(OptionsError, match=r"no folder for temporary files: make /tmp writable.*nowhere"):
        serve_folder(folder, "127.0.0.1", 0, {})
