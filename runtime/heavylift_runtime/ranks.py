"""One copy of the model: its rank processes and their channels. Not restarts: those are in supervisor.py.

It asks rank 0 one thing at a time. A copy whose rank ends, or that does not answer in time, is dead as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from heavylift_runtime.wire import Message, receive

_LAST_WORDS_S = 1.0


def _both(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> set[asyncio.Future[Any]]:
    return {one, other}


class CopyDied(Exception):
    """The copy ended before it answered; the message says how."""


@dataclass(frozen=True)
class Rank:
    """One process, the leader of its own process group, and the server's end of its channel."""

    number: int
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def kill(self) -> None:
        """Kill the whole group: also what a script has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Copy:
    """The ranks of one copy, which live and die together."""

    def __init__(
        self, number: int, options: Options, folder: Path, scratch: Path, environment: Mapping[str, str]
    ) -> None:
        self.number = number
        self.stage = "starting"
        self.ready = asyncio.Event()
        self._options = options
        self._folder = folder
        self._scratch = scratch
        self._environment = environment
        self._ranks: list[Rank] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._births = 0
        self._loaded: set[int] = set()
        self._dead: asyncio.Future[str]
        self._answer: asyncio.Future[Message] | None = None

    async def start(self) -> None:
        """Start the ranks and wait until all have loaded; raises LoadError with the first rank's sentence."""
        self._births += 1
        self._dead = asyncio.get_running_loop().create_future()
        self._loaded = set()
        self.stage = "starting processes"
        for number in range(self._options.ranks):
            self._ranks.append(await self._spawn(number))
        self._watchers = [asyncio.create_task(self._watch(rank)) for rank in self._ranks]
        loading = asyncio.create_task(self.ready.wait())
        limit = self._options.model_loading_timeout
        try:
            await asyncio.wait(_both(loading, self._dead), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loading.cancel()
        if self._dead.done():
            raise LoadError(self._dead.result())
        if not self.ready.is_set():
            raise LoadError(
                f"copy {self.number} did not load within option.model_loading_timeout={limit} s: {self.stage}"
            )

    async def death(self) -> str:
        """Wait for the end of the copy; how it came about."""
        return await asyncio.shield(self._dead)

    async def ask(self, message: Message, seconds: float) -> Message:
        """The answer of rank 0; raises CopyDied where it ends or takes longer, which ends it."""
        assert self._answer is None, "a copy is asked one thing at a time"
        dead = self._dead  # of this birth: the next one begins while we still look at how this one ended
        if dead.done():
            raise CopyDied(dead.result())
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            self._ranks[0].writer.write(message.encode())
            await asyncio.wait(_both(answer, dead), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if not dead.done():
                self._fall(f"copy {self.number} did not answer within option.predict_timeout={seconds:g} s: stopped")
            raise CopyDied(dead.result())
        finally:
            self._answer = None

    async def stop(self, seconds: float) -> None:
        """Ask the ranks to leave, wait, then kill what is left."""
        for rank in self._ranks:
            with contextlib.suppress(ConnectionError):
                rank.writer.write(Message({"type": "stop"}).encode())
        if self._ranks:
            await asyncio.wait([asyncio.create_task(rank.process.wait()) for rank in self._ranks], timeout=seconds)
        await self.kill()

    async def kill(self) -> None:
        """End every rank and what it has started; the copy can be started again."""
        self.ready.clear()
        ranks, self._ranks = self._ranks, []
        for watcher in self._watchers:
            watcher.cancel()
        for rank in ranks:
            rank.kill()
        for rank in ranks:
            await rank.process.wait()
            rank.kill()  # what the rank has started between the first signal and its end
            rank.writer.close()

    async def _spawn(self, number: int) -> Rank:
        ours, theirs = socket.socketpair()
        descriptor = theirs.fileno()
        command = [sys.executable, "-P", "-m", "heavylift_runtime", "worker", "--channel", str(descriptor)]
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(descriptor,),
                start_new_session=True,
                env=self._environment,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        start = {
            "type": "start",
            "options": self._options.to_json(),
            "folder": str(self._folder),
            "scratch": str(self._scratch),
            "rank": number,
            "world": self._options.ranks,
            "rendezvous": f"file://{self._scratch}/rendezvous-{self.number}-{self._births}",
        }
        writer.write(Message(start).encode())
        return Rank(number, process, reader, writer)

    async def _watch(self, rank: Rank) -> None:
        """Hear a rank until its process ends: the end of its channel does not tell, a forked child may hold it open."""
        listener = asyncio.create_task(self._listen(rank))
        try:
            code = await rank.process.wait()
            await asyncio.wait({listener}, timeout=_LAST_WORDS_S)
            self._fall(self._obituary(rank.number, code))  # unless it has said why itself
        finally:
            listener.cancel()

    async def _listen(self, rank: Rank) -> None:
        try:
            while True:
                self._hear(rank.number, await receive(rank.reader))
        except EOFError:
            return  # the process is ending: _watch tells how
        except (ValueError, KeyError) as error:
            self._fall(f"rank {rank.number} of copy {self.number} sent a broken message: {error}")

    def _hear(self, rank: int, message: Message) -> None:
        if message.type == "stage":
            self.stage = f"rank {rank}: {message.header['stage']}"
        elif message.type == "failed":
            self._fall(str(message.header["error"]))
        elif message.type == "ready":
            self._loaded.add(rank)
            if len(self._loaded) == self._options.ranks:
                self.stage = "ready"
                self.ready.set()
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    def _fall(self, reason: str) -> None:
        self.ready.clear()
        if not self._dead.done():
            self._dead.set_result(reason)

    def _obituary(self, number: int, code: int) -> str:
        how = f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        hint = " (out of memory is the usual cause)" if code == -signal.SIGKILL else ""
        return f"rank {number} of copy {self.number} {how}{hint} while: {self.stage}"
