"""The keeper of one model process: starts it, and ends it with all its children when the embedded AWS ends.

Not a part of the plug-in's process: it is a program of its own, `python -I -S keeper.py ARGV…`, standard library only.
Its standard input is a pipe that the embedded AWS holds, and that closes when the embedded AWS closes it or dies, be it
by kill -9. So no thread, signal handler or state file has to survive for the model to end. Exits as the model did.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

GRACE = 10.0
"""Seconds that a model has between SIGTERM and SIGKILL (SageMaker gives 30)."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def main(command: list[str]) -> int:
    """Run the command until it ends or standard input does; its exit code, 128 + the signal that ended it."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)  # a child whose parent dies becomes ours, so that we can end it

    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def die_with_keeper() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    try:
        model = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_keeper,  # safe: this process has one thread, ours has one for life
        )
    except OSError as error:
        print(f"{command[0]} does not start: {error}", file=sys.stderr, flush=True)
        return 127
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while model.poll() is None:
            if any(_over(key, wake) for key, _ in selector.select()):
                break
    _end(model)
    code = model.returncode
    return code if code >= 0 else 128 - code


def _over(key: Any, wake: int) -> bool:
    """Whether an event says that the model must end: the pipe closed, or a signal other than a child's end."""
    if key.fd != wake:
        return not os.read(key.fd, 1)
    return any(number != signal.SIGCHLD for number in os.read(wake, 64))


def _end(model: subprocess.Popen[bytes]) -> None:
    """End the model with SIGTERM, after GRACE seconds with SIGKILL; then whatever it left behind."""
    if model.poll() is None:
        _kill_group(model.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            model.wait(GRACE)
    _kill_group(model.pid, signal.SIGKILL)
    model.wait()
    deadline = time.monotonic() + GRACE
    while (orphans := _children()) and time.monotonic() < deadline:
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _kill_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _children() -> list[int]:
    """The processes that became ours when their parent died."""
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in listing.read_text().split()] if listing.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
