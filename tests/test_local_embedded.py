"""The embedded AWS's daemon: started once, found, ended, and survived by nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heavylift.errors import InputError, ToolError
from heavylift.local import process
from heavylift.local.embedded import EmbeddedAws, Running
from heavylift.local.plugin.port import free_port
from tests.embedded import MODEL_SERVER, ROOT, Embedded, new_embedded, start_embedded
from tests.local_stack import stack
from tests.served import eventually

pytestmark = pytest.mark.slow


def start(aws: EmbeddedAws, port: int) -> Running:
    """Start it with the tests' model server."""
    return aws.start(Path(sys.executable), ROOT / "runtime", port, MODEL_SERVER)


def answer(aws: Embedded, endpoint: str, **asked: Any) -> dict[str, Any]:
    """The model server's answer."""
    reply = aws.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=json.dumps(asked))
    found: dict[str, Any] = json.load(reply["Body"])
    return found


def gone(pid: int) -> bool:
    """Whether the process ends."""
    return eventually(lambda: process.started_at(pid) is None)


def test_starting_twice_is_one_daemon_and_stopping_twice_is_fine(tmp_path: Path) -> None:
    home = tmp_path / "home"
    aws, port = new_embedded(home), free_port()
    assert aws.running() is None
    aws.stop()

    first = start(aws, port)
    second = start(new_embedded(home), port)
    with pytest.raises(InputError, match=f"already runs on port {port}, not 1; leave out --port"):
        start(aws, 1)
    aws.stop()
    aws.stop()

    assert second == first
    assert gone(first.pid)
    assert aws.running() is None
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_the_daemon_listens_on_loopback_alone_and_holds_no_credentials_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREALREALREALREAL")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-real-token")
    monkeypatch.setenv("HF_TOKEN", "hf_real")

    left_open = socket.create_server(("127.0.0.1", 0))  # as a library may leave it
    left_open.set_inheritable(True)
    with left_open, start_embedded(tmp_path, MODEL_SERVER) as aws:
        environ = Path(f"/proc/{aws.running.pid}/environ").read_text()
        aws.deploy("secrets", stack("secrets", {}))
        model = answer(aws, "secrets")["environ"]
        listening = listeners(aws.running.pid)

    assert "REAL" not in environ + str(model)
    assert "real" not in environ + str(model)
    assert listening == [f"0100007F:{aws.running.port:04X}"]


def listeners(pid: int) -> list[str]:
    """The addresses on which the process listens, as /proc/net/tcp writes them."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(os.readlink(fd).removeprefix("socket:[").removesuffix("]"))
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]


def test_kill_nine_of_the_daemon_leaves_no_model_and_the_next_start_is_clean(tmp_path: Path) -> None:
    with start_embedded(tmp_path, MODEL_SERVER) as aws:
        aws.deploy("orphan", stack("orphan", {}))
        answered = answer(aws, "orphan", orphan=True)

        os.kill(aws.running.pid, signal.SIGKILL)

        assert gone(answered["pid"])
        assert gone(answered["asked"]["pid"])
        assert aws.aws.running() is None
        again = start(aws.aws, aws.running.port)
        assert again.pid != aws.running.pid
        assert aws.client("sagemaker").list_endpoints()["Endpoints"] == []
        assert list((tmp_path / "endpoints").iterdir()) == []


def test_stopping_ends_an_endpoint_that_is_still_coming_up(tmp_path: Path) -> None:
    with start_embedded(tmp_path, MODEL_SERVER) as aws:
        sagemaker = aws.client("sagemaker")
        container = {"Image": "m:1", "Environment": {"NEVER_HEALTHY": "1"}}
        role = "arn:aws:iam::123456789012:role/model"
        sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer=container)
        variant = {"VariantName": "A", "ModelName": "m", "InstanceType": "ml.c6i.xlarge", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
        keepers = wait_for_children(aws.running.pid)

        aws.aws.stop()

    assert all(gone(pid) for pid in keepers)


def wait_for_children(pid: int) -> list[int]:
    """The process's children, as soon as there are any."""
    tasks = Path(f"/proc/{pid}/task")
    return eventually(lambda: [int(p) for task in tasks.iterdir() for p in (task / "children").read_text().split()])


def test_a_daemon_whose_starter_was_killed_is_waited_for(tmp_path: Path) -> None:
    port, state = free_port(), tmp_path / "embedded.json"
    code = f"from tests.test_local_embedded import *; start(new_embedded(Path({str(tmp_path)!r})), {port})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as starter:
        eventually(state.exists)
        starter.kill()
    aws = new_embedded(tmp_path)

    running = start(aws, port)

    try:
        with socket.create_connection(("127.0.0.1", running.port), timeout=5):
            pass
    finally:
        aws.stop()


def test_a_recycled_process_number_is_neither_found_nor_ended(tmp_path: Path) -> None:
    aws = new_embedded(tmp_path)
    state = {"format": "heavylift.embedded/1", "pid": os.getpid(), "started": "1", "port": 4566, "token": "x"}
    (tmp_path / "embedded.json").write_text(json.dumps(state))

    assert aws.running() is None
    aws.stop()

    assert not (tmp_path / "embedded.json").exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": "heavylift.embedded/2", "pid": 1}', '{"format": "heavylift.embedded/1", "pid": 1}'],
)
def test_a_state_file_that_cannot_be_read_is_no_daemon(tmp_path: Path, text: str) -> None:
    (tmp_path / "embedded.json").write_text(text)

    assert new_embedded(tmp_path).running() is None


def test_a_port_in_use_is_named_with_the_option_that_helps(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]

        with pytest.raises(InputError, match=f"cannot listen on port {port}: .*--port"):
            start(new_embedded(tmp_path), port)

    assert new_embedded(tmp_path).running() is None


def test_a_daemon_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    broken.chmod(0o700)

    with pytest.raises(ToolError, match=r"(?s)ended .*embedded\.log.*no such module"):
        start(EmbeddedAws(tmp_path / "home", broken), free_port())
