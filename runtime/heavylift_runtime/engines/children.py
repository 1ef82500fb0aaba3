"""A model whose rank processes this process itself starts and asks, as a user's script does. The server's: ranks.py.

Each rank is the same worker as under the server, at the other end of a socket: it ends its own process group as soon as
that socket closes, whatever way this process ended, so that none outlives it. Where several processes start one rank
each, they live and die together: one whose rank has ended ends too, and the supervisor starts all of them again.
"""

from __future__ import annotations

import itertools
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from heavylift_runtime.engines.devices import narrowed, told
from heavylift_runtime.engines.engine import Piece, Request
from heavylift_runtime.engines.interpreter import environment_of, interpreter_of
from heavylift_runtime.errors import PromptError, RuntimeFault
from heavylift_runtime.options import Options
from heavylift_runtime.pieces import unpack
from heavylift_runtime.start import Start
from heavylift_runtime.wire import Channel, HungUp, Message

_LEAVE_S = 5.0
_models = itertools.count()  # of this process: every rank of a script starts the same ones in the same order


class Ended(RuntimeFault):
    """A rank ended, or could not load; the message says which, and how."""


@dataclass(frozen=True)
class _Child:
    number: int
    process: subprocess.Popen[bytes]
    channel: Channel


class _Life:
    """What the threads that listen know of the whole. `shared`: other processes have the other ranks."""

    def __init__(self, shared: bool) -> None:
        self.shared = shared
        self.loaded, self.lost, self.closing = threading.Event(), threading.Event(), threading.Event()

    def lose(self, what: str) -> None:
        """A rank is gone."""
        self.lost.set()
        if self.loaded.is_set() and self.shared and not self.closing.is_set():
            print(f"{what}: this process ends, as the other ranks' do", file=sys.stderr, flush=True)
            os._exit(1)


class Children:
    """The ranks of one model, loaded. They end with `close`, with this object, or with this process."""

    def __init__(
        self,
        options: Options,
        folder: Path,
        rendezvous: str | None = None,
        only: int | None = None,
        target: Path | None = None,
    ) -> None:
        """`only`: this rank alone, because other processes start the others and share `rendezvous`. `target`: the ranks
        are a script's, and write partitioned weights there instead of loading. Raises Ended."""
        scratch = Path(tempfile.mkdtemp(prefix="heavylift-"))
        meeting = f"file://{scratch}/rendezvous" if rendezvous is None else rendezvous
        numbers = range(options.ranks) if only is None else (only,)
        self._inbox: queue.SimpleQueue[tuple[int, Message | None]] = queue.SimpleQueue()
        self._children: list[_Child] = []
        life = _Life(only is not None and options.ranks > 1)
        self._end = weakref.finalize(self, _end, self._children, scratch, life)
        self._next = 0
        for number in numbers:
            child = _start(number, options, folder, scratch, meeting, target)
            self._children.append(child)
            threading.Thread(
                target=_listen, args=(child, self._inbox, life), name=f"rank {number}", daemon=True
            ).start()
        waiting = set(numbers)
        while waiting:
            number, message = self._hear()
            if message.type == "ready":
                waiting.discard(number)
        life.loaded.set()
        if life.lost.is_set():
            life.lose("a rank of the model ended as it had loaded")

    @property
    def leads(self) -> bool:
        """Rank 0 is here, and can be asked."""
        return self._children[0].number == 0

    def ask(self, requests: Sequence[Request], *, stream: bool = False) -> Iterator[tuple[int, Piece]]:
        """Pieces with their request's place, as they come; PromptError for a refused one, Ended where a rank is lost.

        A caller that stops early has cancelled the rest.
        """
        keys = {self._next + place: place for place in range(len(requests))}
        self._next += len(requests)
        channel = self._children[0].channel
        rows = [
            {"key": key, "request": request.to_json(), "stream": stream}
            for key, request in zip(keys, requests, strict=True)
        ]
        running = set(keys)
        self._send(channel, {"type": "submit", "rows": rows})
        try:
            while running:
                _, message = self._hear()
                if message.type == "refused" and message.header["key"] in keys:
                    running.discard(message.header["key"])
                    raise PromptError(str(message.header["error"]))
                if message.type != "pieces":
                    continue
                for piece in map(unpack, message.header["pieces"]):
                    if piece.key in running:  # not of a call that was given up
                        if piece.last:
                            running.discard(piece.key)
                        yield keys[piece.key], piece
        finally:
            if running:
                self._send(channel, {"type": "cancel", "keys": sorted(running)})

    def close(self) -> None:
        """Let the ranks leave, and end those that do not."""
        self._end()

    def _send(self, channel: Channel, header: dict[str, object]) -> None:
        with suppress(HungUp):  # a rank that is gone is heard of by its socket's end
            channel.send(header)

    def _hear(self) -> tuple[int, Message]:
        number, message = self._inbox.get()
        if message is None:
            child = next(each for each in self._children if each.number == number)
            code = child.process.wait()
            self.close()
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise Ended(f"rank {number} of the model {how}")
        if message.type == "failed":
            self.close()
            raise Ended(str(message.header["error"]))
        return number, message


def beside(options: Options, folder: Path) -> Children:
    """The ranks of a model that a script starts: all of them, or where the script itself runs in several processes,
    that of this process's number. Raises Ended, and ValueError where there are not as many of them."""
    rendezvous = os.environ.get("HEAVYLIFT_RENDEZVOUS")
    if rendezvous is None:
        return Children(options, folder)
    if int(os.environ["WORLD_SIZE"]) != options.ranks:
        raise ValueError(
            f"the model takes {options.ranks} ranks (tensor_parallel_degree {options.tensor_parallel_degree} times "
            f"pipeline_parallel_degree {options.pipeline_parallel_degree}) and the script has "
            f"{os.environ['WORLD_SIZE']}: give both the same, or run the script with engine=Python"
        )
    return Children(options, folder, f"{rendezvous}-model-{next(_models)}", int(os.environ.get("RANK", "0")))


def _start(number: int, options: Options, folder: Path, scratch: Path, rendezvous: str, target: Path | None) -> _Child:
    seen = told(options, 0, os.environ) if options.engine == "script" else narrowed(options, os.environ)
    ours, theirs = socket.socketpair()
    descriptor = theirs.fileno()
    python = interpreter_of(options, os.environ)
    command = [python, "-P", "-m", "heavylift_runtime", "worker", "--channel", str(descriptor)]
    environ = environment_of(python, os.environ | dict(options.environment) | seen)
    with theirs:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,), start_new_session=True, env=environ
        )
    channel = Channel(ours)
    channel.send(Start(options, folder, scratch, number, rendezvous, target).header())
    return _Child(number, process, channel)


def _listen(child: _Child, inbox: queue.SimpleQueue[tuple[int, Message | None]], life: _Life) -> None:
    try:
        while True:
            message = child.channel.receive()
            inbox.put((child.number, message))
            if message.type == "failed":
                life.lose(str(message.header["error"]))
    except (EOFError, OSError, ValueError):
        inbox.put((child.number, None))
    finally:
        child.channel.close()
    life.lose(f"rank {child.number} of the model ended")


def _end(children: Sequence[_Child], scratch: Path, life: _Life) -> None:
    life.closing.set()
    for child in children:
        with suppress(HungUp):
            child.channel.send({"type": "stop"})
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(_LEAVE_S if child.process.poll() is None else 0)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        child.channel.hang_up()
    shutil.rmtree(scratch, ignore_errors=True)
