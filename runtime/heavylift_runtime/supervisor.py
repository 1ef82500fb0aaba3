"""Copies of the model, kept alive: each one is a group of rank processes. Not batching, and it knows no engine.

A copy dies as a whole: where one rank ends, the others of its copy are killed and all are started again, at most
`retry_threshold` times within ten minutes; then the supervisor gives up, so that SageMaker sees it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from heavylift_runtime.engines.cores import threads
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from heavylift_runtime.ranks import Copy, Duty

_WINDOW_S = 600.0
_STOP_S = 3.0
_LONGEST = 64  # stages of a timeline


@dataclass(frozen=True)
class Health:
    """What /ping says: `status` is one sentence, `elapsed_s` the seconds since the server started."""

    ready: bool
    status: str
    elapsed_s: float
    timeline: tuple[tuple[float, str], ...] = ()
    """What was reached when, in seconds since the server started, until every copy was ready for the first time."""


class Supervisor:
    """Starts the copies, restarts the dead ones, stops all of them."""

    def __init__(
        self,
        options: Options,
        folder: Path,
        scratch: Path,
        duty: Duty,
        report: Callable[[int, str], None] = lambda copy, stage: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`report` is told of each copy's stages."""
        self._clock = clock
        self._report = report
        self._timeline: list[tuple[float, str]] = []
        self._began = clock()
        self._budget = options.retry_threshold
        environment = _environment(options)
        self.copies = [
            Copy(number, options, folder, scratch, environment, duty, self._note) for number in range(options.workers)
        ]
        self._loaded: set[int] = set()  # the copies that have been ready at least once
        self._keepers: list[asyncio.Task[None]] = []
        self.restarts = 0
        self.failure: LoadError | None = None
        self.failed = asyncio.Event()
        self.started = asyncio.Event()  # every copy has been ready once

    def start(self) -> None:
        """Begin to load every copy."""
        self._keepers = [asyncio.create_task(self._keep(copy), name=f"copy {copy.number}") for copy in self.copies]

    def health(self) -> Health:
        """Ready once every copy has loaded, and from then on while at least one is alive."""
        loading = [copy for copy in self.copies if not copy.ready.is_set()]
        elapsed, timeline = self._clock() - self._began, tuple(self._timeline)
        if self.failure is not None:
            return Health(False, str(self.failure), elapsed, timeline)
        # none is loading: `started` is set some turns of the event loop later
        if not loading or (self.started.is_set() and len(loading) < len(self.copies)):
            return Health(True, "ready", elapsed, timeline)
        doing = "restarting" if self.started.is_set() else "loading"
        return Health(False, f"{doing}: {loading[0].stage}", elapsed, timeline)

    async def stop(self) -> None:
        """Let the ranks leave, then kill the rest of their process groups."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(copy.stop(_STOP_S if copy.ready.is_set() else 0.0) for copy in self.copies))

    async def _keep(self, copy: Copy) -> None:
        deaths: deque[float] = deque()
        while True:
            try:
                await copy.start()
                self._loaded.add(copy.number)
                if len(self._loaded) == len(self.copies):
                    self.started.set()
                reason = await copy.death()
            except LoadError as error:
                reason = str(error)
                if copy.number not in self._loaded:
                    return self._give_up(error)
            await copy.kill()
            now = self._clock()
            deaths.append(now)
            while deaths[0] < now - _WINDOW_S:
                deaths.popleft()
            if len(deaths) > self._budget:
                sentence = (
                    f"copy {copy.number} died {len(deaths)} times within ten minutes (retry_threshold={self._budget}); "
                    f"the last time: {reason}"
                )
                return self._give_up(LoadError(sentence))
            self._note(copy.number, f"died: {reason}")
            self.restarts += 1
            copy.stage = reason

    def _give_up(self, error: LoadError) -> None:
        self.failure = error
        self.failed.set()

    def _note(self, copy: int, stage: str) -> None:
        self._report(copy, stage)
        if self.started.is_set() or len(self._timeline) == _LONGEST:
            return
        at, what = round(self._clock() - self._began, 3), f"copy {copy}: {stage}"
        if self._timeline and _progress(self._timeline[-1][1]) == _progress(what) is not None:
            self._timeline.pop()  # the same, further on
        self._timeline.append((at, what))


def _progress(stage: str) -> str | None:
    """What a stage is a part of, where it tells a share: `weights` of `weights: 2 of 7 MB (30 %)`."""
    return stage.rpartition(": ")[0] if stage.endswith("%)") else None


def _environment(options: Options) -> dict[str, str]:
    """The environment of a rank: ours, and for a script its share of the cores; an engine takes its own."""
    share = threads(options.workers * options.ranks) if options.engine == "script" else None
    told = {} if share is None else {"OMP_NUM_THREADS": str(share)}
    # PyTorch's switch for transparent huge pages: one core of a virtual machine read 36 GB/s with them, 19 without
    pages = {"THP_MEM_ALLOC_ENABLE": "1"}
    return told | pages | dict(os.environ) | dict(options.environment) | {"PYTHONUNBUFFERED": "1"}
