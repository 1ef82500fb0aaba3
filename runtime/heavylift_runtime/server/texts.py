"""Requests for text: a schema reads them, the rolling line computes, the schema writes. Not the routes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from heavylift_runtime.engines.engine import Request
from heavylift_runtime.server.adapters import Adapters
from heavylift_runtime.server.attending import attending
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.rolling import Job, Rolling
from heavylift_runtime.server.schemas import Answer, Defaults, Exchange, Misread
from heavylift_runtime.server.visit import Visit

_log = logging.getLogger("heavylift_runtime.server")
STREAM_SECONDS = 480.0
"""A stream's time: SageMaker's newest documents give a streamed reply eight minutes, and 60 s to any other."""
LARGE = 2**18  # bytes of a body that takes milliseconds to read
FAILED = Refused(500, "the server failed; its log tells more")
STOPPING = Refused(503, "the server stops and could not wait for the model any longer")

Read = Callable[[str, Mapping[str, str], bytes, Defaults], Exchange]
Fail = Callable[[str, int, str, Defaults], Answer]


@dataclass(frozen=True)
class Texts:
    """One model's desk for text. `budget`: seconds for a reply in one piece."""

    rolling: Rolling
    read: Read
    fail: Fail
    defaults: Defaults
    budget: float

    @property
    def waiting(self) -> int:
        """Requests without a place."""
        return self.rolling.waiting

    async def answer(self, visit: Visit, body: bytes) -> None:
        """Answer; whatever happens, nothing of it stays in the line. Raises Refused only where nothing was sent."""
        adapters = self.rolling.adapters
        wanted = None if adapters is None else adapters.wanted(visit.headers)
        try:
            exchange = await self._read(visit, body)
        except Misread as misread:
            await visit.refuse(misread, misread.answer)
            return
        try:
            requests = exchange.requests if adapters is None else _adapted(exchange.requests, wanted, adapters)
            job = self.rolling.join(requests, stream=exchange.stream)
        except Refused as refused:
            await visit.refuse(refused, exchange.failure(refused.code, refused.sentence))
            return
        visit.rows, visit.stream = len(job.rows), exchange.stream
        budget = max(self.budget, STREAM_SECONDS) if exchange.stream else self.budget
        try:
            with attending(visit.departure, job.refuse, budget, lambda: _late(job, budget)):
                await _news(job)
                visit.seated, visit.opened = job.seated, job.opened  # the reply's head may tell them
                if job.refused is not None and not job.unread:
                    await visit.refuse(job.refused, exchange.failure(job.refused.code, job.refused.sentence))
                elif exchange.stream:
                    await _stream(visit, exchange, job)
                else:
                    await visit.reply(200, exchange.media_type, exchange.reply(job.finished()))
        finally:
            self.rolling.leave(job)
            _note(visit, job)
            job.rows.clear()  # each holds the job: they go now, not when the garbage collector stops everything

    def end(self, refused: Refused) -> None:
        """Refuse all that wait or are under way: the model is gone."""
        self.rolling.end(refused)

    async def _read(self, visit: Visit, body: bytes) -> Exchange:
        """The exchange; a large body is read beside the event loop, lest /ping waits for it. Raises Misread."""
        adapters, defaults = self.rolling.adapters, self.defaults
        if adapters is not None:
            defaults = replace(defaults, adapters=adapters.names)
        if len(body) < LARGE:
            return self.read(visit.path, visit.headers, body, defaults)
        return await asyncio.to_thread(self.read, visit.path, visit.headers, body, defaults)

    async def refuse(self, visit: Visit, refused: Refused) -> None:
        """Answer a request that could not be read, in the shape that its path speaks."""
        await visit.refuse(refused, self.fail(visit.path, refused.code, refused.sentence, self.defaults))


def _adapted(requests: Sequence[Request], wanted: str | None, adapters: Adapters) -> list[Request]:
    """Each with its own adapter, else with the one that the platform names; raises Refused for an unknown one."""
    given = [request if request.adapter is not None else replace(request, adapter=wanted) for request in requests]
    for request in given:
        if request.adapter is not None:
            adapters.described(request.adapter)
    return given


async def _stream(visit: Visit, exchange: Exchange, job: Job) -> None:
    """Send frames as they come; a client that is behind gets several at once, and its end comes from here."""
    await visit.open(exchange.media_type)
    last: float | None = None

    def frames() -> list[bytes]:
        nonlocal last
        now, taken = time.monotonic(), job.take()
        count = sum([len(piece.tokens) for _, piece in taken])
        if last is not None and count:
            visit.gaps.append(((now - last) / count, count))
        last = now
        return [exchange.event(index, piece) for index, piece in taken]

    def pour() -> bool:
        if not visit.departure.reads():
            return False
        try:
            visit.pour(b"".join(frames()))
        except Exception:  # a fault of ours, in the middle of what a copy says: it is not the copy's
            _log.exception("request %s failed in the server", visit.identity)
            job.refuse(FAILED)
            return False
        return True

    while True:
        job.pour = _nothing
        parts = frames()
        refused, done = job.refused, job.done  # as they are before the client holds us up
        if refused is not None:
            visit.error = refused.sentence
            parts.append(exchange.broken(refused.code, refused.sentence))
        elif done:
            parts.append(exchange.end())
        await visit.chunk(b"".join(parts))
        if refused is not None or done:
            break
        job.pour = pour
        await _news(job)
    await visit.close()


def _nothing() -> bool:
    return False


async def _news(job: Job) -> None:
    try:
        await job.news.wait()
    except asyncio.CancelledError:  # uvicorn, once the time to drain is over
        job.refuse(STOPPING)


def _late(job: Job, budget: float) -> Refused:
    if job.seated is None:
        return Refused(503, f"the request waited {budget:g} s in the queue (option.predict_timeout)", retry_after=1)
    return Refused(424, f"the model did not answer within {budget:g} s (option.predict_timeout)")


def _note(visit: Visit, job: Job) -> None:
    """What the log and the metrics tell of a job."""
    visit.seated, visit.opened = job.seated, job.opened
    lasts = [row.pieces[-1] for row in job.rows if row.pieces]
    visit.prompt_tokens = sum(piece.prompt_tokens for piece in lasts)
    visit.generated_tokens = sum(piece.generated_tokens for piece in lasts)
    if job.done:
        visit.finish = ",".join(sorted({piece.finish_reason or "" for piece in lasts}))
