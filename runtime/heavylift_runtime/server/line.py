"""The line before a script: requests wait here, and their rows leave in batches. Not HTTP, no processes.

A request is one or more rows. Rows leave in the order of arrival, at most `batch_size` together; those of several
requests may share a batch, and a request with more rows than that leaves in several. (Engines that step: rolling.py.)
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from heavylift_runtime.server.flow import Flow
from heavylift_runtime.server.pace import Pace
from heavylift_runtime.server.refused import Refused

_log = logging.getLogger("heavylift_runtime.server")

Answer = Callable[[list[Any]], Awaitable[Sequence[Any]]]  # the rows' contents to as many results; raises Refused


@dataclass(eq=False)
class Job:
    """One request's rows on their way; `done` ends with all of their results, in order, or with Refused."""

    rows: Sequence[Any]
    arrived: float
    done: asyncio.Future[list[Any]]
    next: int = 0  # the first row that has not left
    results: dict[int, Any] = field(default_factory=dict)

    def settle(self, index: int, result: Any) -> None:
        """One row is answered."""
        self.results[index] = result
        if len(self.results) == len(self.rows) and not self.done.done():
            self.done.set_result([self.results[index] for index in range(len(self.rows))])

    def refuse(self, refused: Refused) -> None:
        """No row of it will be answered any more."""
        if not self.done.done():
            self.done.set_exception(refused)


@dataclass(frozen=True)
class Row:
    """One row of a batch, and whose it is."""

    job: Job
    index: int

    @property
    def content(self) -> Any:
        """What the model gets."""
        return self.job.rows[self.index]


class Line:
    """Bounded, first come first served. Delay in seconds, by the event loop's clock."""

    def __init__(self, batch_size: int, delay: float, limit: int, full: int = 503) -> None:
        """`limit`: requests that may wait; more get `full`."""
        self._full = full
        self._batch_size = batch_size
        self._delay = delay
        self._limit = limit
        self._jobs: dict[Job, None] = {}  # those with rows that have not left; a dict keeps their order
        self._changed = asyncio.Event()
        self._taking = asyncio.Lock()
        self.pace = Pace(time.monotonic)
        self._over: Refused | None = None  # why no copy will ever come

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._jobs)

    def join(self, rows: Sequence[Any]) -> Job:
        """Put a request's rows into the line; raises Refused where it is full, or has ended."""
        if self._over is not None:
            raise self._over.again()
        if len(self._jobs) >= self._limit:
            sentence = f"the queue is full: {len(self._jobs)} requests wait (job_queue_size={self._limit})"
            raise Refused(self._full, sentence, retry_after=self.pace.until(len(self._jobs)))
        loop = asyncio.get_running_loop()
        job = Job(rows, loop.time(), loop.create_future())
        self._jobs[job] = None
        self._changed.set()
        return job

    def leave(self, job: Job) -> None:
        """Take a request out: its client is gone, or its time is up. Rows that have left are computed in vain."""
        self._jobs.pop(job, None)
        job.done.cancel()

    def end(self, refused: Refused) -> None:
        """No copy will ever come: those that wait are refused, and those whose bodies were still coming."""
        self._over = self._over or refused
        for job in list(self._jobs):
            del self._jobs[job]
            job.refuse(refused)

    def put_back(self, batch: list[Row]) -> None:
        """Undo a take, at once: the rows are the first in the line again."""
        for row in reversed(batch):
            row.job.next = row.index
            self._jobs.pop(row.job, None)
            self._jobs = {row.job: None} | self._jobs
        self._changed.set()

    async def take(self) -> list[Row]:
        """The next batch: as soon as it is full, or its oldest request has waited for the delay."""
        async with self._taking:
            while not self._ripe():
                self._changed.clear()
                await self._wait()
            rows: list[Row] = []
            for job in list(self._jobs):
                count = min(self._batch_size - len(rows), len(job.rows) - job.next)
                rows += [Row(job, index) for index in range(job.next, job.next + count)]
                job.next += count
                if job.next == len(job.rows):
                    del self._jobs[job]
                if len(rows) == self._batch_size:
                    break
            return rows

    def _ripe(self) -> bool:
        if not self._jobs:
            return False
        waiting = itertools.accumulate(len(job.rows) - job.next for job in self._jobs)
        return self._remaining() <= 0 or any(total >= self._batch_size for total in waiting)

    def _remaining(self) -> float:
        oldest = next(iter(self._jobs))
        return oldest.arrived + self._delay - asyncio.get_running_loop().time()

    async def _wait(self) -> None:
        timeout = self._remaining() if self._jobs else None
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return


async def serve_line(line: Line, ready: asyncio.Event, answer: Answer) -> None:
    """Give batches to one copy of the model, while it is ready, for ever."""
    while True:
        await ready.wait()
        batch = await line.take()
        if not ready.is_set():
            line.put_back(batch)  # the copy died while we waited: another one may be alive
            continue
        await _run(batch, answer)
        for _ in batch:
            line.pace.step()


async def _run(batch: list[Row], answer: Answer) -> None:
    """Settle the rows, and wait until the copy is free again; a refusal is the answer of all, as in LMI."""
    wanted = [row for row in batch if not row.job.done.done()]
    if not wanted:
        return
    try:
        results = await answer([row.content for row in wanted])
    except Refused as refused:
        for row in wanted:
            row.job.refuse(refused)
        return
    except asyncio.CancelledError:  # the model is being unloaded
        for row in wanted:
            row.job.refuse(Refused(503, "the model is being unloaded"))
        raise
    except Exception:  # a fault of ours: these requests fail, the line goes on
        _log.exception("a batch of %d rows failed in the server", len(wanted))
        for row in wanted:
            row.job.refuse(Refused(500, "the server failed; its log tells more"))
        return
    if len(results) != len(wanted):
        for row in wanted:
            row.job.refuse(Refused(424, f"the script gave {len(results)} answers to a batch of {len(wanted)} requests"))
        return
    for row, result in zip(wanted, results, strict=True):
        if isinstance(result, Flow) and row.job.done.done():
            result.stop(Refused(499, "the client went away"))
        row.job.settle(row.index, result)
        if isinstance(result, Flow):
            await result.over.wait()
