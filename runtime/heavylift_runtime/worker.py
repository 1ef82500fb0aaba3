"""One rank process: load the engine, then do what the server sends on the channel. Not HTTP, not batching.

A thread of every rank waits for the end of its channel, so that it notices at any moment that the server is gone, and
then ends its whole process group: no rank outlives the server, even after `kill -9`. It reads nothing: messages are
read between two steps, by the thread that makes them. Rank 0 gets the work; the others follow it.

    to the rank     start: start.py · stop · work: steps.py, calls.py
    from the rank   stage {stage} · ready {capacity, files} · failed {error, memory} · results: steps.py, calls.py
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from heavylift_runtime.engines.engine import Engine
from heavylift_runtime.engines.prompt_files import prompt_files
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.errors import LoadError, RuntimeFault, ran_out
from heavylift_runtime.garbage import settle
from heavylift_runtime.start import Start
from heavylift_runtime.steps import roll
from heavylift_runtime.wire import Channel, HungUp


def run(descriptor: int) -> int:
    """Be one rank on an inherited socket until the server says stop; the process's exit code."""
    os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        start = Start.of(channel.receive().header)
    except EOFError:
        return 0  # the server was stopped before it said anything
    threading.Thread(target=_outlive_nobody, args=(channel, start.scratch), name="channel", daemon=True).start()
    try:
        _serve(start, channel)
    except HungUp:
        _outlive_nobody(channel, start.scratch)
    except Exception as error:  # the last line of defence of this process: the server gets a sentence
        if not isinstance(error, RuntimeFault):
            traceback.print_exc()
        with contextlib.suppress(HungUp):
            channel.send({"type": "failed", "error": _sentence(error), "memory": ran_out(error)})
        return 1
    return 0


def _serve(start: Start, channel: Channel) -> None:
    options, folder, rank, world = start.options, start.folder, start.rank, start.options.ranks

    def report(stage: str) -> None:
        channel.send({"type": "stage", "stage": stage})

    if options.engine == "script":
        from heavylift_runtime.calls import serve_calls
        from heavylift_runtime.engines import script  # imports the user's code's world

        place = (rank, world, start.rendezvous)
        if start.target is not None:
            script.partition(options, folder, start.target, start.scratch, report, *place)
            channel.send({"type": "ready"})
            channel.receive()  # stop, once every rank has written
            return
        loaded = script.load(options, folder, start.scratch, report, *place)
        settle()
        channel.send({"type": "ready", "capacity": 1})
        serve_calls(loaded, channel, rank, world)
        return
    row = ENGINES[options.engine]
    if (missing := row.missing()) is not None:
        raise LoadError(missing)
    load: Callable[..., Engine] = importlib.import_module(row.module).load  # torch: only here, and only in a rank
    engine = load(options, folder, rank, world, start.rendezvous, report)
    settle()
    if rank > 0:
        channel.send({"type": "ready"})
        engine.follow()
        return
    files = prompt_files(options, folder)
    channel.send({"type": "ready", "capacity": engine.capacity, "files": files})
    roll(engine, channel)
    engine.close()  # not after a failure: the others may never listen again, and the server ends them


def _sentence(error: BaseException) -> str:
    if isinstance(error, RuntimeFault):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _outlive_nobody(channel: Channel, scratch: Path) -> None:
    channel.wait_for_end()
    sys.stderr.flush()
    shutil.rmtree(scratch, ignore_errors=True)  # the server, which would have done it, is gone
    os.killpg(0, signal.SIGKILL)  # the rank leads its own group (ranks.py), with all that a script has started
