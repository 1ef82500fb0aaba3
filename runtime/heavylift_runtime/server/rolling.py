"""The line before an engine that steps: rows take the places of those that have ended, at any step. Not HTTP.

A job is one HTTP request, with one row or more. Fair: rows are seated in turn, one of each waiting job, so that a job
of 256 rows does not hold up a job of one. A copy has a little more than it can run (`_AHEAD`), so that no place is
empty for the length of a round trip; everything else waits here, where the order is kept and a dead copy loses nothing.

No row is lost, doubled or mixed up: keys are unique for the server's life, and a piece whose key is not under way is
dropped. Where a copy dies, the rows of which the client has seen nothing are computed once more; the others end in 424.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from heavylift_runtime.engines.engine import Piece, Request
from heavylift_runtime.pieces import unpack
from heavylift_runtime.ranks import Copy
from heavylift_runtime.server.adapters import Adapters
from heavylift_runtime.server.pace import Pace
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.schemas import Finished
from heavylift_runtime.server.silence import Silence
from heavylift_runtime.wire import Message

_AHEAD = 0.25  # of a copy's capacity, at least one row: what it holds beside what it runs
MOST_UNREAD = 4096
"""Tokens that a stream's client may leave unread; about a megabyte. Then it is too slow, and its stream ends."""


@dataclass(eq=False)
class Row:
    """One prompt on its way."""

    job: Job
    index: int
    request: Request
    pieces: list[Piece] = field(default_factory=list)
    seen: bool = False  # the client has got a part of it
    tried: bool = False  # a copy has died over it


class Job:
    """One HTTP request's rows.

    `news` is set when there is something to tell: for a stream whenever tokens have come, else once all have; and when
    `refused` says that no more will come. `unread` is what a stream's client has not got yet. `pour` may take that at
    once, instead of the task that waits for news, whose turn costs more than the token; it says whether it did.
    """

    def __init__(self, requests: Sequence[Request], stream: bool, now: float) -> None:
        self.rows = [Row(self, index, request) for index, request in enumerate(requests)]
        self.stream = stream
        self.arrived = now
        self.seated: float | None = None  # when its first row got a place
        self.opened: float | None = None  # when its first token came
        self.news = asyncio.Event()
        self.pour: Callable[[], bool] = lambda: False
        self.refused: Refused | None = None
        self.waiting = deque(self.rows)
        self.unread: list[tuple[Row, Piece]] = []
        self._behind = 0  # tokens in there
        self._open = len(self.rows)

    @property
    def done(self) -> bool:
        """Every row has ended well."""
        return self._open == 0

    def finished(self) -> list[Finished]:
        """The answers of a job that is done."""
        return [Finished.of(row.pieces) for row in self.rows]

    def take(self) -> list[tuple[int, Piece]]:
        """What the client has not got yet; it will get it now."""
        taken, self.unread, self._behind = self.unread, [], 0
        for row, _ in taken:
            row.seen = True
        self.news.clear()
        return [(row.index, piece) for row, piece in taken]

    def open(self, at: float) -> None:
        """The first token of a row came then."""
        self.opened = at if self.opened is None else min(self.opened, at)

    def put(self, row: Row, piece: Piece, now: float) -> bool:
        """A piece of a row has come; False where the client does not read what comes."""
        if self.opened is None:
            self.opened = now
        row.pieces.append(piece)
        if piece.last:
            self._open -= 1
        if self.stream:
            reads = self._behind <= MOST_UNREAD  # one piece may bring any number
            self.unread.append((row, piece))
            self._behind += len(piece.tokens)
            return reads
        if self._open == 0:
            self.news.set()
        return True

    def told(self) -> None:
        """All pieces of a stream that came together have been put."""
        if self.unread and not (self._open and self.refused is None and self.pour()):
            self.news.set()

    def again(self, row: Row) -> None:
        """The row begins anew, and is the job's next one."""
        row.pieces.clear()
        row.tried = True
        self.unread = [(each, piece) for each, piece in self.unread if each is not row]
        self._behind = sum(len(piece.tokens) for _, piece in self.unread)
        self.waiting.appendleft(row)

    def refuse(self, refused: Refused) -> None:
        """No row of it will be answered any more."""
        if self.refused is None and not self.done:
            self.refused = refused
            self.news.set()


class Rolling:
    """The line, and the rows that are under way on each copy."""

    def __init__(
        self,
        limit: int,
        stall: float,
        full: int = 503,
        clock: Callable[[], float] = time.monotonic,
        adapters: Adapters | None = None,
    ) -> None:
        """`limit`: jobs that may wait, more get `full`; `stall`: seconds without a word from a copy that has work."""
        self.adapters = adapters
        self._full = full
        self._limit = limit
        self._stall = stall
        self._clock = clock
        self._keys = itertools.count(1)
        self._jobs: deque[Job] = deque()  # those with rows that wait
        self._under_way: dict[Copy, dict[int, Row]] = {}
        self._silences: dict[Copy, Silence] = {}
        self._asked: set[Copy] = set()  # those told to cancel that have said nothing since
        self.loads: dict[Copy, dict[str, float]] = {}  # what the engines say of themselves
        self.pace = Pace(self._clock)
        self._over: Refused | None = None  # why no copy will ever come

    @property
    def waiting(self) -> int:
        """Jobs with rows that have no place yet."""
        return len(self._jobs)

    @property
    def running(self) -> int:
        """Rows that the copies hold."""
        return sum(map(len, self._under_way.values()))

    def join(self, requests: Sequence[Request], *, stream: bool) -> Job:
        """Put a request's rows into the line; raises Refused where it is full, or has ended."""
        if self._over is not None:
            raise self._over.again()
        if len(self._jobs) >= self._limit:
            raise Refused(
                self._full,
                f"the queue is full: {len(self._jobs)} requests wait (job_queue_size={self._limit})",
                retry_after=self.pace.until(len(self._jobs)),
            )
        job = Job(requests, stream, self._clock())
        self._jobs.append(job)
        self._seat()
        return job

    def leave(self, job: Job) -> None:
        """Nobody waits for the job any more: what runs of it is cancelled. A job that has ended is no fault."""
        if job.done:
            return
        if job.waiting:
            job.waiting.clear()
            self._jobs.remove(job)
        for copy, rows in self._under_way.items():
            if keys := [key for key, row in rows.items() if row.job is job]:
                for key in keys:
                    del rows[key]
                copy.tell(Message({"type": "cancel", "keys": keys}))
                self._asked.add(copy)
                self._silences[copy].watch()
        self._seat()

    def end(self, refused: Refused) -> None:
        """No copy will ever come: all jobs are refused, and those whose bodies were still coming."""
        self._over = self._over or refused
        jobs = {row.job for rows in self._under_way.values() for row in rows.values()} | set(self._jobs)
        for job in jobs:
            self._end(job, refused)

    def rose(self, copy: Copy) -> None:
        if self.adapters is not None:
            self.adapters.rose(copy)
        self._under_way[copy] = {}
        sentence = f"copy {copy.number} said nothing for option.predict_timeout={self._stall:g} s: stopped"
        busy = partial(self._has_work, copy)
        self._silences[copy] = Silence(copy, self._stall, self._clock, busy, sentence)
        self._seat()

    def heard(self, copy: Copy, message: Message) -> None:
        rows, now = self._under_way[copy], self._clock()
        self._silences[copy].heard()
        self._asked.discard(copy)
        if message.type == "refused":
            row = rows.pop(message.header["key"], None)
            if row is not None:
                self._end(row.job, Refused(message.header["code"], str(message.header["error"])))
        elif message.type == "pieces":
            self.loads[copy] = message.header.get("load", self.loads.get(copy, {}))
            for key, at in message.header.get("opened", ()):
                if key in rows:
                    rows[key].job.open(float(at))
            streams = dict[Job, None]()
            for piece in map(unpack, message.header["pieces"]):
                row = rows.get(piece.key)
                if row is None:
                    continue  # cancelled meanwhile
                if piece.last:
                    del rows[piece.key]
                    self.pace.step()
                if piece.error is not None:
                    if piece.tokens and row.job.stream:  # those since the last message: the client gets them
                        row.job.put(row, piece._replace(error=None), now)
                    self._end(row.job, Refused(*piece.error))
                elif not row.job.put(row, piece, now):
                    self._end(row.job, Refused(408, f"the client left {MOST_UNREAD} tokens of its stream unread"))
                elif row.job.stream:
                    streams[row.job] = None
            for job in streams:
                job.told()
        elif message.type == "adapter" and self.adapters is not None:
            self.adapters.heard(message)
        self._seat()

    def fell(self, copy: Copy, reason: str) -> None:
        if self.adapters is not None:
            self.adapters.fell(copy)
        self.loads.pop(copy, None)
        self._silences.pop(copy).end()
        self._asked.discard(copy)
        for row in self._under_way.pop(copy).values():
            job = row.job
            if row.seen or row.tried:
                self._end(job, Refused(424, f"the model stopped while it computed this request: {reason}"))
            elif job.refused is None:
                if not job.waiting:
                    self._jobs.appendleft(job)
                job.again(row)
        self._seat()

    def _end(self, job: Job, refused: Refused) -> None:
        job.refuse(refused)
        self.leave(job)

    def _seat(self) -> None:
        """Give rows to the copies that have room, the emptiest first; one message to each copy."""
        given: dict[Copy, list[tuple[int, Row]]] = {}
        while self._jobs and (copy := self._roomiest()) is not None:
            job = self._jobs.popleft()
            row = job.waiting.popleft()
            if job.waiting:
                self._jobs.append(job)
            if job.seated is None:
                job.seated = self._clock()
            if not self._under_way[copy]:
                self._silences[copy].heard()  # it had nothing to speak of
            key = next(self._keys)
            self._under_way[copy][key] = row
            given.setdefault(copy, []).append((key, row))
        for copy, rows in given.items():
            copy.tell(_submit(rows))
            self._silences[copy].watch()

    def _roomiest(self) -> Copy | None:
        rooms = {
            copy: copy.capacity + max(1, int(copy.capacity * _AHEAD)) - len(rows)
            for copy, rows in self._under_way.items()
        }
        copy = max(rooms, key=rooms.__getitem__, default=None)
        return copy if copy is not None and rooms[copy] > 0 else None

    def _has_work(self, copy: Copy) -> bool:
        return bool(self._under_way.get(copy)) or copy in self._asked


def _submit(rows: Iterable[tuple[int, Row]]) -> Message:
    return Message({"type": "submit", "rows": [_asked(key, row) for key, row in rows]})


def _asked(key: int, row: Row) -> dict[str, Any]:
    """A whole answer's tokens are told apart by no schema where no log-probabilities are asked for."""
    asked = {"key": key, "request": row.request.to_json(), "stream": row.job.stream}
    whole = not row.job.stream and row.request.sampling.logprobs is None
    return asked | {"joined": True} if whole else asked
