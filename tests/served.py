"""A running server for tests: the real process on a free port, and its process group's end. Not a fake."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

DEADLINE_S = 180.0  # of a wait that a test expects to end: only a failure takes so long
T = TypeVar("T")
_ADDRESS = re.compile(r"http://\S+")


def eventually(ask: Callable[[], T], seconds: float = DEADLINE_S) -> T:
    """The first true answer; fails where none comes in time."""
    until = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.02)
    return answer


@dataclass(frozen=True)
class Served:
    """The server process, its address, and where its stderr goes."""

    process: subprocess.Popen[str]
    address: str
    errors: Path

    @property
    def port(self) -> int:
        """The port of the address."""
        return int(self.address.rsplit(":", 1)[1])

    def ping(self) -> int:
        """The status code of /ping."""
        return httpx.get(f"{self.address}/ping", timeout=5).status_code

    def ask(self, body: object, seconds: float = 60, **headers: str) -> httpx.Response:
        """POST /invocations with a JSON body."""
        return httpx.post(f"{self.address}/invocations", json=body, headers=headers, timeout=seconds)

    def wait(self) -> Served:
        """Until /ping says 200, or the process has ended."""

        def settled() -> bool:
            if self.process.poll() is not None:
                return True
            try:
                return self.ping() == 200
            except httpx.TransportError:  # it has closed its port, and is about to end
                return False

        eventually(settled)
        assert self.process.poll() is None, self.errors.read_text()
        return self

    def ranks(self) -> list[int]:
        """The ids of the rank processes: the children that are workers."""
        return [pid for pid in _children(self.process.pid) if b"worker" in _command(pid)]

    def end(self, seconds: float = 40) -> tuple[int, str]:
        """The exit code and the last line of stderr, once it has ended."""
        code = self.process.wait(seconds)
        lines = self.errors.read_text().splitlines()
        return code, lines[-1] if lines else ""


@contextmanager
def serving(folder: Path, environ: Mapping[str, str] | None = None, *, wait: bool = True) -> Iterator[Served]:
    """`python -m heavylift_runtime serve FOLDER --port 0`; killed at the end, with its ranks."""
    errors = folder.parent / f"{folder.name}.stderr"
    command = [sys.executable, "-m", "heavylift_runtime", "serve", str(folder), "--port", "0"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OPTION_", "SERVING_"))}
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=inherited | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder.parent)} | dict(environ or {}),
        )
    assert process.stdout is not None
    try:
        found = _ADDRESS.search(process.stdout.readline())
        assert found is not None, errors.read_text()
        served = Served(process, found.group(), errors)
        yield served.wait() if wait else served
    finally:
        ranks = [pid for pid in _children(process.pid) if b"worker" in _command(pid)]
        process.kill()
        process.wait()
        process.stdout.close()
        for pid in ranks:
            eventually(lambda pid=pid: not alive(pid))


def write_script(folder: Path, script: str, properties: str = "engine=Python\n") -> Path:
    """A model folder with a model.py."""
    folder.mkdir()
    (folder / "model.py").write_text(script)
    (folder / "serving.properties").write_text(properties)
    return folder


def write_native(checkpoint: Path, folder: Path, properties: str = "") -> Path:
    """A copy of a checkpoint, for the native engine in fp32."""
    shutil.copytree(checkpoint, folder)
    (folder / "serving.properties").write_text(f"engine=native\noption.dtype=fp32\n{properties}")
    return folder


def alive(pid: int) -> bool:
    """The process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in tasks.read_text().split()]
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
