"""The real runtime on this machine, started for a measurement: its address, its processes' peak memory, its end.

Not an endpoint: no AWS, no queue that fills. The server binds to loopback and ends with this process's command.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heavylift.errors import HeavyliftError

READY_SECONDS, STOP_SECONDS = 600.0, 40.0
ADDRESS = re.compile(r"http://\S+")


@dataclass(frozen=True)
class Served:
    """A server that is ready. Memory is the kernel's VmHWM: the most that was resident, shared pages in each."""

    process: subprocess.Popen[bytes]
    address: str

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"{self.address}/invocations"

    def peaks(self) -> tuple[int, list[int]]:
        """Bytes of the server process, and of each rank."""
        ranks = [pid for pid in _children(self.process.pid) if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return _peak(self.process.pid), sorted(map(_peak, ranks))

    def engines_peak(self) -> int:
        """Bytes of all processes below the server: the ranks, and those that an engine starts itself, as vLLM does."""
        return sum(map(_peak, _below(self.process.pid)))

    def processor_s(self) -> float:
        """Seconds that the server and all below it have used until now, with what has ended there."""
        pids = [self.process.pid, *_below(self.process.pid)]
        fields = [Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split() for pid in pids]
        return sum(int(each) for of in fields for each in of[11:15]) / os.sysconf("SC_CLK_TCK")  # proc(5), 14 to 17


@contextmanager
def serving(properties: str, ready_seconds: float = READY_SECONDS) -> Iterator[Served]:
    """A server with these serving.properties, which name their model. HeavyliftError with its last words if it ends,
    or is not ready in time."""
    with tempfile.TemporaryDirectory(prefix="heavylift-calibrate-") as name:
        folder, said, errors = Path(name, "model"), Path(name, "stdout"), Path(name, "stderr")
        folder.mkdir()
        (folder / "serving.properties").write_text(properties, encoding="utf-8")
        command = [sys.executable, "-m", "heavylift_runtime", "serve", str(folder), "--port", "0"]
        mine = {key: value for key, value in os.environ.items() if not key.startswith(("OPTION_", "SERVING_"))}
        with said.open("w") as stdout, errors.open("w") as stderr:  # not a pipe, which fills where an engine logs
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=mine)
        try:
            yield Served(process, _ready(process, said, errors, ready_seconds))
        finally:
            _stop(process)


def _ready(process: subprocess.Popen[bytes], said: Path, errors: Path, seconds: float) -> str:
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        first, ended, _ = said.read_bytes().partition(b"\n")
        found = ADDRESS.search(first.decode("utf-8", "replace")) if ended else None
        if found is not None and _answers(f"{found.group()}/ping"):
            return found.group()
        time.sleep(0.05)
    words = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise HeavyliftError(f"the runtime did not start: {words[-1] if words else 'it said nothing'}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(json.loads(reply.read())["status"] == "ready")
    except (OSError, ValueError, KeyError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in tasks.read_text(encoding="utf-8").split()]
    return found


def _below(pid: int) -> list[int]:
    return [each for child in _children(pid) for each in (child, *_below(child))]
