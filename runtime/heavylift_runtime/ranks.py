"""One copy of the model: its rank processes and their channels. Not restarts: those are in supervisor.py.

A copy whose rank ends is dead as a whole. What its ranks compute is not known here: that is between its duty (who
gives it work, in the server) and the loops of the ranks (steps.py, calls.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from heavylift_runtime.engines.devices import told
from heavylift_runtime.errors import LoadError, MemoryFault
from heavylift_runtime.options import Options
from heavylift_runtime.rank import Rank, spawn
from heavylift_runtime.wire import Frames, Message

_LAST_WORDS_S = 1.0


class Duty(Protocol):
    """Who gives work to a copy, and hears of it."""

    def rose(self, copy: Copy) -> None:
        """It has loaded: work may come."""

    def heard(self, copy: Copy, message: Message) -> None:
        """Rank 0 says something about its work; raises ValueError, KeyError or TypeError where that makes no sense."""

    def fell(self, copy: Copy, reason: str) -> None:
        """It is dead: what it was given is lost."""


class Copy:
    """The ranks of one copy, which live and die together."""

    def __init__(
        self,
        number: int,
        options: Options,
        folder: Path,
        scratch: Path,
        environment: Mapping[str, str],
        duty: Duty,
        report: Callable[[int, str], None] = lambda copy, stage: None,
    ) -> None:
        self.number = number
        self.stage = "starting"
        self.ready = asyncio.Event()
        self.capacity = 1
        self.files: Mapping[str, str] = {}  # of the checkpoint, that the server needs and cannot read
        self._options = options
        self._folder = folder
        self._scratch = scratch
        self._environment = environment
        self._duty = duty
        self._report = report
        self._ranks: list[Rank] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._births = 0
        self._loaded: set[int] = set()
        self._out_of_memory = False
        self._dead: asyncio.Future[str]

    async def start(self) -> None:
        """Start the ranks and wait until all have loaded; LoadError or MemoryFault with the first rank's sentence."""
        self._births += 1
        self._dead = asyncio.get_running_loop().create_future()
        self._loaded = set()
        self._out_of_memory = False
        self._at("starting processes")
        rendezvous = f"file://{self._scratch}/rendezvous-{self.number}-{self._births}"
        environment = {**self._environment, **told(self._options, self.number, self._environment)}
        for number in range(self._options.ranks):
            frames = Frames(partial(self._hear, number), partial(self._broken, number))
            place = self._folder, self._scratch, rendezvous, environment, frames
            self._ranks.append(await spawn(number, self._options, *place))
        self._watchers = [asyncio.create_task(self._watch(rank)) for rank in self._ranks]
        loading = asyncio.create_task(self.ready.wait())
        limit = self._options.model_loading_timeout
        try:
            either: set[asyncio.Future[Any]] = {loading, self._dead}
            await asyncio.wait(either, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loading.cancel()
        if self._dead.done():
            raise (MemoryFault if self._out_of_memory else LoadError)(self._dead.result())
        if not self.ready.is_set():
            raise LoadError(
                f"copy {self.number} did not load within option.model_loading_timeout={limit} s: {self.stage}"
            )

    async def death(self) -> str:
        """Wait for the end of the copy; how it came about."""
        return await asyncio.shield(self._dead)

    def tell(self, message: Message) -> None:
        """Send work: to rank 0, or to all ranks where each one runs the script."""
        for rank in self._ranks if self._options.engine == "script" else self._ranks[:1]:
            rank.say(message)

    def waited(self) -> float:
        """Seconds for which every rank has waited for a processor: one that is stopped for ever waits for none."""
        return min((rank.waited() for rank in self._ranks), default=0.0)

    def fall(self, reason: str) -> None:
        """It is dead, or as good as dead: the supervisor kills what is left."""
        if not self._dead.done():
            was_ready = self.ready.is_set()
            self.ready.clear()
            self._dead.set_result(reason)
            if was_ready:
                self._duty.fell(self, reason)

    async def stop(self, seconds: float) -> None:
        """Ask the ranks to leave, wait, then kill what is left."""
        for rank in self._ranks:
            rank.say(Message({"type": "stop"}))
        if self._ranks:
            await asyncio.wait([asyncio.create_task(rank.process.wait()) for rank in self._ranks], timeout=seconds)
        await self.kill()

    async def kill(self) -> None:
        """End every rank and what it has started; the copy can be started again."""
        if self.ready.is_set():
            self.ready.clear()
            self._duty.fell(self, "it was stopped")
        ranks, self._ranks = self._ranks, []
        for watcher in self._watchers:
            watcher.cancel()
        for rank in ranks:
            rank.kill()
        for rank in ranks:
            await rank.process.wait()
            rank.kill()  # what the rank has started between the first signal and its end
            rank.channel.close()

    async def _watch(self, rank: Rank) -> None:
        """Until its process ends: the end of its channel does not tell, a forked child may hold it open."""
        code = await rank.process.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(rank.frames.over.wait(), _LAST_WORDS_S)
        self.fall(self._obituary(rank.number, code))  # unless it has said why itself

    def _broken(self, rank: int, error: Exception) -> None:
        self.fall(f"rank {rank} of copy {self.number} sent a broken message: {error}")

    def _hear(self, rank: int, message: Message) -> None:
        if message.type == "stage":
            self._at(f"rank {rank}: {message.header['stage']}")
        elif message.type == "failed":
            self._out_of_memory = bool(message.header["memory"])
            self.fall(str(message.header["error"]))
        elif message.type == "ready":
            self._loaded.add(rank)
            self.capacity = message.header.get("capacity", self.capacity)
            self.files = message.header.get("files", self.files)
            if len(self._loaded) == self._options.ranks and not self._dead.done():
                self._at("ready")
                self.ready.set()
                self._duty.rose(self)
        elif rank == 0 and self.ready.is_set():
            self._duty.heard(self, message)

    def _at(self, stage: str) -> None:
        self.stage = stage
        self._report(self.number, stage)

    def _obituary(self, number: int, code: int) -> str:
        how = f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        self._out_of_memory = self._out_of_memory or code == -signal.SIGKILL
        hint = " (out of memory is the usual cause)" if code == -signal.SIGKILL else ""
        return f"rank {number} of copy {self.number} {how}{hint} while: {self.stage}"
