"""One model under the server: its options, its copies, and the desk that answers for it. Not the routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from heavylift_runtime.options import Options
from heavylift_runtime.server.conversation import Conversation
from heavylift_runtime.server.defaults import defaults_of
from heavylift_runtime.server.line import Line, serve_line
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.rolling import Rolling
from heavylift_runtime.server.schemas import failure, read
from heavylift_runtime.server.scripts import Scripts
from heavylift_runtime.server.texts import Texts
from heavylift_runtime.server.visit import Visit
from heavylift_runtime.supervisor import Supervisor

Report = Callable[[int, str], None]


@dataclass(frozen=True)
class Hosted:
    """A model that is served; `url` is where its folder lies."""

    name: str
    url: str
    options: Options
    supervisor: Supervisor
    desk: Texts | Scripts
    running: Callable[[], int]  # requests that the copies compute
    loads: Callable[[], Sequence[Mapping[str, float]]]  # what each copy's engine says of itself
    _lines: list[asyncio.Task[None]]

    @classmethod
    def begin(cls, name: str, folder: Path, options: Options, scratch: Path, report: Report) -> Hosted:
        """Begin to load it; on the event loop."""
        lines: list[asyncio.Task[None]] = []
        if options.engine == "script":
            conversation = Conversation(options.predict_timeout)
            line = Line(
                options.batch_size, options.max_batch_delay / 1000, options.job_queue_size, options.throttle_http_code
            )
            supervisor = Supervisor(options, folder, scratch, conversation, report)
            lines += [
                asyncio.create_task(serve_line(line, copy.ready, partial(conversation.ask, copy)))
                for copy in supervisor.copies
            ]
            desk: Texts | Scripts = Scripts(line, options.predict_timeout)
            hosted = cls(name, str(folder), options, supervisor, desk, lambda: conversation.running, lambda: (), lines)
        else:
            rolling = Rolling(options.job_queue_size, options.predict_timeout, options.throttle_http_code)
            supervisor = Supervisor(options, folder, scratch, rolling, report)
            desk = Texts(rolling, read, failure, defaults_of(name, folder, options), options.predict_timeout)
            loads = rolling.loads
            hosted = cls(
                name, str(folder), options, supervisor, desk, lambda: rolling.running, lambda: [*loads.values()], lines
            )
        supervisor.start()
        return hosted

    def admit(self, visit: Visit) -> None:
        """Refused (503) before the body is read, while no copy is there to answer."""
        visit.model = self.name
        health = self.supervisor.health()
        if not health.ready:
            raise Refused(503, f"the model is not ready: {health.status}", retry_after=1)

    async def answer(self, visit: Visit, body: bytes) -> None:
        """As its desk does."""
        await self.desk.answer(visit, body)

    async def refuse(self, visit: Visit, refused: Refused) -> None:
        """In the shape that its clients read."""
        await self.desk.refuse(visit, refused)

    async def end(self) -> None:
        """Stop its copies; nothing of it is left."""
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await self.supervisor.stop()


def model_name(folder: Path, options: Options) -> str:
    """What clients call the only model: as it was asked for, without the path before it."""
    place = (options.model_id or "").rstrip("/").rpartition("/")[2]
    return place or folder.name or "model"
