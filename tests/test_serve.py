"""The server process and its ranks, attacked: with real processes, real HTTP, a real model.py."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.served import DEADLINE_S, Served, alive, eventually, kill, serving, write_script

pytestmark = pytest.mark.slow

ECHO = """
import os, signal, subprocess, sys, time

def handle(inputs):
    if inputs.is_empty():
        return None
    request = inputs.get_as_json()
    if request.get("do") == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if request.get("do") == "sleep":
        time.sleep(request["seconds"])
    if request.get("do") == "spin":
        while True:
            pass
    if request.get("do") == "spawn":
        return {"pid": subprocess.Popen(["sleep", "600"]).pid}
    return {"echo": request, "pid": os.getpid()}
"""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = write_script(tmp_path_factory.mktemp("echo") / "model", ECHO, "engine=Python\njob_queue_size=500\n")
    with serving(folder) as served:
        yield served


def start(tmp_path: Path, properties: str = "", script: str = ECHO) -> Path:
    return write_script(tmp_path / "model", script, f"engine=Python\n{properties}")


def test_a_request_reaches_the_script_and_comes_back(echo: Served) -> None:
    reply = echo.ask({"inputs": "hello"})

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["echo"] == {"inputs": "hello"}


def test_two_hundred_concurrent_requests_are_all_answered(echo: Served) -> None:
    limits = httpx.Limits(max_connections=200)
    with ThreadPoolExecutor(200) as clients, httpx.Client(limits=limits, timeout=60) as http:
        url = f"{echo.address}/invocations"
        replies = list(clients.map(lambda number: http.post(url, json={"inputs": number}), range(200)))

    assert [reply.status_code for reply in replies] == [200] * 200
    assert [reply.json()["echo"]["inputs"] for reply in replies] == list(range(200))


def test_a_body_that_is_too_large_is_refused_before_it_is_read(echo: Served) -> None:
    with socket.create_connection(("127.0.0.1", echo.port), 10) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")

        reply = b""
        while b"}" not in reply:
            reply += client.recv(4096)

    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"the body has 99999999999 bytes: at most 6291456" in reply


def test_a_body_without_a_length_is_refused_once_it_has_grown_too_large(echo: Served) -> None:
    reply = httpx.post(f"{echo.address}/invocations", content=(b"x" * 2**20 for _ in range(7)), timeout=30)

    assert reply.status_code == 413
    assert reply.json() == {"error": "the body has more than 6291456 bytes", "code": 413}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\x16\x03\x01 nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000,
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
)
def test_garbage_on_the_socket_harms_nobody(echo: Served, garbage: bytes) -> None:
    with (
        contextlib.suppress(ConnectionError),  # the server may hang up on it
        socket.create_connection(("127.0.0.1", echo.port), 10) as client,
    ):
        client.sendall(garbage)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        while client.recv(65536):
            pass

    assert echo.ping() == 200


def test_a_client_that_goes_away_does_not_hold_the_model(echo: Served) -> None:
    body = b'{"inputs": "bye"}'
    head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    for whole in (head + body, head + body[:5]):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", echo.port), 10) as client:
                client.sendall(whole)

    assert echo.ask({"inputs": "still here"}).status_code == 200


def test_other_routes_and_methods_get_a_sentence(echo: Served) -> None:
    for method, path, code in (("GET", "/none", 404), ("GET", "/invocations", 405), ("POST", "/ping", 405)):
        reply = httpx.request(method, echo.address + path)

        assert (reply.status_code, reply.json()["code"]) == (code, code)
        assert "use GET /ping or POST /invocations" in reply.json()["error"]


def test_ping_says_what_is_loading_and_invocations_wait_for_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)\n" + ECHO

    with serving(start(tmp_path, script=script), wait=False) as served:
        eventually(lambda: "importing model.py" in httpx.get(f"{served.address}/ping").json()["status"])
        refused = served.ask({"inputs": "early"})

        assert served.ping() == 503
        assert refused.status_code == 503
        assert refused.json()["error"].startswith("the model is not ready: loading: ")

        gate.touch()
        served.wait()

        assert served.ask({"inputs": "now"}).status_code == 200


def test_a_script_that_cannot_be_imported_ends_the_server_with_its_sentence(tmp_path: Path) -> None:
    with serving(start(tmp_path, script="import no_such_module"), wait=False) as served:
        code, last = served.end()

    assert code == 1
    assert last == "model.py cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"


def test_a_script_that_does_not_load_in_time_ends_the_server(tmp_path: Path) -> None:
    folder = start(tmp_path, "option.model_loading_timeout=1\n", "import time\ntime.sleep(600)")

    with serving(folder, wait=False) as served:
        code, last = served.end()

    assert code == 1
    assert "did not load within option.model_loading_timeout=1 s: " in last  # and the stage that it had reached


def test_a_rank_that_dies_in_a_request_is_replaced(tmp_path: Path) -> None:
    with serving(start(tmp_path)) as served:
        before = served.ask({}).json()["pid"]
        died = served.ask({"do": "die"})
        served.wait()
        after = served.ask({}).json()["pid"]

    assert died.status_code == 424
    assert "rank 0 of copy 0 was killed by SIGKILL" in died.json()["error"]
    assert after != before and not alive(before)


def test_a_request_in_the_queue_outlives_the_death_of_the_one_before_it(tmp_path: Path) -> None:
    with serving(start(tmp_path)) as served, ThreadPoolExecutor(2) as clients:
        slow = clients.submit(served.ask, {"do": "sleep", "seconds": 600})
        eventually(lambda: _is_asleep(served))
        queued = clients.submit(served.ask, {"inputs": "patient"})
        eventually(lambda: httpx.get(f"{served.address}/ping").json()["waiting"] == 1)
        (rank,) = served.ranks()

        kill(rank)

        assert slow.result().status_code == 424
        assert "killed by SIGKILL" in slow.result().json()["error"]
        assert queued.result().status_code == 200


def test_a_model_that_does_not_answer_in_time_is_stopped_and_replaced(tmp_path: Path) -> None:
    with serving(start(tmp_path, "option.predict_timeout=1\n")) as served:
        (rank,) = served.ranks()
        reply = served.ask({"do": "spin"})
        eventually(lambda: not alive(rank))
        served.wait()

        assert reply.status_code == 424
        assert "within" in reply.json()["error"] and "option.predict_timeout" in reply.json()["error"]
        assert served.ask({}).status_code == 200


def test_a_copy_that_dies_too_often_ends_the_server(tmp_path: Path) -> None:
    with serving(start(tmp_path, "retry_threshold=1\n")) as served:
        (first,) = served.ranks()
        kill(first)
        eventually(lambda: served.ranks() not in ([], [first]))
        served.wait()
        (second,) = served.ranks()
        kill(second)
        code, last = served.end()

    assert code == 1
    assert last.startswith(
        "copy 0 died 2 times within ten minutes (retry_threshold=1); the last time: rank 0 of copy 0"
    )


def test_one_of_two_copies_serves_while_the_other_is_down(tmp_path: Path) -> None:
    with serving(start(tmp_path, "minWorkers=2\nmaxWorkers=2\n")) as served:
        ranks = served.ranks()
        assert len(ranks) == 2

        kill(ranks[0])  # what it takes until the server has seen its end is not given to the other: scripts run once
        eventually(
            lambda: 'heavylift_copy_restarts_total{model="model"} 1.0' in httpx.get(served.address + "/metrics").text
        )

        assert served.ping() == 200
        assert served.ask({}).status_code == 200


def test_no_process_outlives_a_server_that_was_killed(tmp_path: Path) -> None:
    with serving(start(tmp_path)) as served:
        grandchild = served.ask({"do": "spawn"}).json()["pid"]
        (rank,) = served.ranks()
        assert alive(rank) and alive(grandchild)

        kill(served.process.pid)

        eventually(lambda: not alive(rank) and not alive(grandchild))
        assert not list(tmp_path.glob("heavylift-*"))


def test_sigterm_lets_a_running_request_end_and_leaves_nothing(tmp_path: Path) -> None:
    with serving(start(tmp_path)) as served, ThreadPoolExecutor(1) as clients:
        (rank,) = served.ranks()
        grandchild = served.ask({"do": "spawn"}).json()["pid"]
        running = clients.submit(served.ask, {"do": "sleep", "seconds": 1.5})
        eventually(lambda: _is_asleep(served))

        served.process.send_signal(signal.SIGTERM)
        code, _ = served.end()

        assert running.result().status_code == 200
        assert code == 0
        assert not alive(rank) and not alive(grandchild)
        assert not list(tmp_path.glob("heavylift-*"))


def _is_asleep(served: Served) -> bool:
    """Whether the script computes: then a second request waits."""
    try:
        httpx.post(f"{served.address}/invocations", json={}, timeout=0.3)
    except httpx.ReadTimeout:
        return True
    return False


def test_a_port_in_use_is_named(tmp_path: Path, echo: Served) -> None:
    command = [sys.executable, "-m", "heavylift_runtime", "serve", str(start(tmp_path)), "--port", str(echo.port)]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)

    assert ended.returncode == 2
    assert ended.stderr.strip() == (f"port {echo.port} of 127.0.0.1 is in use: stop what listens there, or give --port")


def test_wrong_options_end_the_command_with_every_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "heavylift_runtime", "serve", str(start(tmp_path, "batch_sise=1\nmaxWorkers=x\n"))]

    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_S, env=os.environ | {"SERVING_X": "1"}
    )

    assert ended.returncode == 2
    assert [line.split(":")[0] for line in ended.stderr.splitlines()] == [
        "unknown key 'batch_sise' for engine script",
        "maxWorkers must be a whole number from 1 to 64",
        "unknown key 'x' for engine script",
    ]


def test_the_platform_gives_the_port(tmp_path: Path, echo: Served) -> None:
    command = [sys.executable, "-m", "heavylift_runtime", "serve", str(start(tmp_path))]

    for port, sentence in (
        (str(echo.port), f"port {echo.port} of 127.0.0.1 is in use"),
        ("x", "must be a port: got 'x'"),
    ):
        environ = os.environ | {"SAGEMAKER_BIND_TO_PORT": port}
        ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=environ)

        assert ended.returncode == 2
        assert sentence in ended.stderr


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "heavylift_runtime", "serve", str(tmp_path / "none")]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)

    assert ended.returncode == 2
    assert ended.stderr.startswith("no folder '")
