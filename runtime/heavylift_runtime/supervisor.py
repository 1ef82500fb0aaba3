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

from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from heavylift_runtime.ranks import Copy

_WINDOW_S = 600.0
_STOP_S = 3.0


@dataclass(frozen=True)
class Health:
    """What /ping says: `status` is one sentence, `elapsed_s` the seconds since the server started."""

    ready: bool
    status: str
    elapsed_s: float


class Supervisor:
    """Starts the copies, restarts the dead ones, stops all of them."""

    def __init__(
        self, options: Options, folder: Path, scratch: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._began = clock()
        self._budget = options.retry_threshold
        environment = _environment(options)
        self.copies = [Copy(number, options, folder, scratch, environment) for number in range(options.workers)]
        self._loaded: set[int] = set()  # the copies that have been ready at least once
        self._keepers: list[asyncio.Task[None]] = []
        self.failure: str | None = None
        self.failed = asyncio.Event()

    def start(self) -> None:
        """Begin to load every copy."""
        self._keepers = [asyncio.create_task(self._keep(copy), name=f"copy {copy.number}") for copy in self.copies]

    def health(self) -> Health:
        """Ready once every copy has loaded, and from then on while at least one is alive."""
        ready = [copy for copy in self.copies if copy.ready.is_set()]
        started = len(self._loaded) == len(self.copies)
        elapsed = self._clock() - self._began
        if self.failure is not None:
            return Health(False, self.failure, elapsed)
        if started and ready:
            return Health(True, "ready", elapsed)
        slowest = next(copy for copy in self.copies if not copy.ready.is_set())
        return Health(False, f"{'restarting' if started else 'loading'}: {slowest.stage}", elapsed)

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
                reason = await copy.death()
            except LoadError as error:
                reason = str(error)
                if copy.number not in self._loaded:
                    return self._give_up(reason)
            await copy.kill()
            now = self._clock()
            deaths.append(now)
            while deaths[0] < now - _WINDOW_S:
                deaths.popleft()
            if len(deaths) > self._budget:
                return self._give_up(
                    f"copy {copy.number} died {len(deaths)} times within ten minutes (retry_threshold={self._budget}); "
                    f"the last time: {reason}"
                )
            copy.stage = reason

    def _give_up(self, reason: str) -> None:
        self.failure = reason
        self.failed.set()


def _environment(options: Options) -> dict[str, str]:
    """The environment of a rank: ours, and for a script a fair share of the cores; the native engine takes its own."""
    share = max(len(os.sched_getaffinity(0)) // options.workers, 1)
    threads = {"OMP_NUM_THREADS": str(share)} if options.engine == "script" else {}
    return threads | dict(os.environ) | {"PYTHONUNBUFFERED": "1"}
