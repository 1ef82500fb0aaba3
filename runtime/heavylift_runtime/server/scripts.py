"""Requests for a script: any bytes in, any bytes out, in one piece or in chunks. Not the routes, not the script."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from heavylift_runtime.server.attending import attending
from heavylift_runtime.server.conversation import Call
from heavylift_runtime.server.flow import Flow, Whole
from heavylift_runtime.server.line import Job, Line
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.texts import STOPPING, STREAM_SECONDS
from heavylift_runtime.server.visit import Visit


@dataclass(frozen=True)
class Scripts:
    """One model's desk for its script. `budget`: seconds until the answer begins."""

    line: Line
    budget: float

    @property
    def waiting(self) -> int:
        """Requests that no copy has taken."""
        return len(self.line)

    async def answer(self, visit: Visit, body: bytes) -> None:
        """Answer as the script does; raises Refused only where nothing was sent."""
        if not body:
            raise Refused(400, "the body is empty")
        visit.rows = 1
        result = await self._result(visit, Call(visit.headers, body))
        if isinstance(result, Whole):
            headers = {name.lower(): value for name, value in result.headers.items()}
            media_type = headers.pop("content-type", "application/octet-stream")
            await visit.reply(result.code, media_type, result.body, headers)
            return
        visit.stream = True
        with attending(visit.departure, result.stop, max(self.budget, STREAM_SECONDS), self._late):
            await _stream(visit, result)

    def end(self, refused: Refused) -> None:
        """Refuse all that wait: the model is gone. What is under way ends with its copy."""
        self.line.end(refused)

    async def refuse(self, visit: Visit, refused: Refused) -> None:
        """Answer a request that the script does not get."""
        await visit.refuse(refused)

    async def _result(self, visit: Visit, call: Call) -> Whole | Flow:
        job = self.line.join([call])
        try:
            with attending(visit.departure, job.refuse, self.budget, lambda: self._late(job)):
                (result,) = await job.done
        except asyncio.CancelledError:  # uvicorn, once the time to drain is over
            raise STOPPING from None
        finally:
            self.line.leave(job)
        assert isinstance(result, Whole | Flow)
        return result

    def _late(self, job: Job | None = None) -> Refused:
        if job is not None and job.next == 0:
            sentence = f"the request waited {self.budget:g} s in the queue (option.predict_timeout)"
            return Refused(503, sentence, retry_after=1)
        return Refused(424, f"the model did not answer within {self.budget:g} s (option.predict_timeout)")


async def _stream(visit: Visit, flow: Flow) -> None:
    """Send chunks as they come. What fails in the middle is told in a last JSON line, as LMI does."""
    headers = {name.lower(): value for name, value in flow.headers.items()}
    await visit.open(headers.pop("content-type", "application/jsonlines"), flow.code, headers)
    try:
        while True:
            await visit.chunk(flow.take())
            if flow.refused is not None or flow.over.is_set():
                break
            await flow.news.wait()
    except asyncio.CancelledError:
        flow.stop(STOPPING)
    finally:
        flow.stop(STOPPING)  # where the client's connection failed under our hands
    await visit.chunk(flow.take())
    if flow.refused is not None:
        visit.error = flow.refused.sentence
        last = {"error": flow.refused.sentence, "code": flow.refused.code}
        await visit.chunk(json.dumps(last).encode() + b"\n")
    await visit.close()
