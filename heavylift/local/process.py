"""A process known by its number and the moment it started, so that a recycled number is never taken for it.

Not its start: that is heavylift.local.embedded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path


def started_at(pid: int) -> str | None:
    """When the process started, as an opaque string; None when there is none, or only its exit code is left."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # were it a dead child of ours, it would stay in the table until we asked
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():  # proc(5): the 3rd field is the state, the 22nd the start time
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip() or None


def end(pid: int, started: str, seconds: float) -> None:
    """End the process that started then, and wait: SIGTERM, after `seconds` SIGKILL to its whole group."""
    if started_at(pid) == started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _wait(pid, started, seconds)
    if started_at(pid) == started:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _wait(pid, started, seconds)


def _wait(pid: int, started: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while started_at(pid) == started and time.monotonic() < deadline:
        time.sleep(0.02)
