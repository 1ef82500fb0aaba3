"""One model under the server: its options, its copies, and the desk that answers for it. Not the routes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.options import Options
from heavylift_runtime.server.adapter_routes import refuse_adapter
from heavylift_runtime.server.adapters import Adapters, found
from heavylift_runtime.server.conversation import Conversation
from heavylift_runtime.server.defaults import defaults_of
from heavylift_runtime.server.line import Line, serve_line
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.rolling import Rolling
from heavylift_runtime.server.schemas import failure, read
from heavylift_runtime.server.scripts import Scripts
from heavylift_runtime.server.sessions import HEADER, Sessions
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
    duty: Rolling | Conversation
    sessions: Sessions | None
    _lines: list[asyncio.Task[None]]

    @classmethod
    def begin(cls, name: str, folder: Path, options: Options, scratch: Path, report: Report) -> Hosted:
        """Begin to load it; on the event loop."""
        full, budget, lines = options.throttle_http_code, options.predict_timeout, []
        desk: Texts | Scripts
        duty: Rolling | Conversation
        if options.engine == "script":
            duty = conversation = Conversation(budget)
            line = Line(options.batch_size, options.max_batch_delay / 1000, options.job_queue_size, full)
            desk, sessions = Scripts(line, budget), None
            supervisor = Supervisor(options, folder, scratch, duty, report)
            lines = [
                asyncio.create_task(serve_line(line, copy.ready, partial(conversation.ask, copy)))
                for copy in supervisor.copies
            ]
        else:
            adapters = None if why_no_adapters(options) else Adapters(found(folder), report)
            duty = Rolling(options.job_queue_size, budget, full, adapters=adapters)
            defaults = defaults_of(name, folder, options, lambda: _files(supervisor))
            desk = Texts(duty, read, failure, defaults, budget)
            sessions = Sessions(options.sessions_expiration) if options.sessions else None
            supervisor = Supervisor(options, folder, scratch, duty, report)
        supervisor.start()
        lines.append(asyncio.create_task(_mourn(supervisor, desk)))
        return cls(name, str(folder), options, supervisor, desk, duty, sessions, lines)

    @property
    def waiting(self) -> int:
        """Requests without a place."""
        return self.desk.waiting

    @property
    def running(self) -> int:
        """Rows that the copies compute."""
        return self.duty.running

    @property
    def restarts(self) -> int:
        """Copies that have died and come back."""
        return self.supervisor.restarts

    @property
    def loads(self) -> Sequence[Mapping[str, float]]:
        """What each copy's engine tells of itself."""
        return list(self.duty.loads.values()) if isinstance(self.duty, Rolling) else ()

    @property
    def adapters(self) -> Adapters | str:
        """Its adapters, or why it has none."""
        adapters = self.duty.adapters if isinstance(self.duty, Rolling) else None
        return why_no_adapters(self.options) if adapters is None else adapters

    @property
    def names(self) -> list[str]:
        """What requests may call it: its own name, and those of its adapters."""
        return [self.name] if isinstance(self.adapters, str) else [self.name, *sorted(self.adapters.names)]

    @property
    def state(self) -> dict[str, object]:
        """For /ping's body."""
        health = self.supervisor.health()
        return {
            "status": health.status,
            "elapsed_s": round(health.elapsed_s, 1),
            "waiting": self.waiting,
            "running": self.running,
            "timeline": health.timeline,
        }

    def admit(self, visit: Visit) -> None:
        """Refused before the body is read: 503 while no copy is there to answer, 404 for an adapter."""
        visit.model = self.name
        if isinstance(adapters := self.adapters, str):
            refuse_adapter(visit, adapters)
        health = self.supervisor.health()
        if not health.ready:
            raise Refused(503, f"the model is not ready: {health.status}", retry_after=1)

    async def answer(self, visit: Visit, body: bytes) -> None:
        """As its desk does; what opens and closes a session is answered here."""
        if self.sessions is not None:
            if await self.sessions.answer(visit, body):
                return
        elif HEADER in visit.headers and self.options.engine != "script":
            raise Refused(400, "sessions are off: set option.enable_stateful_sessions=true")
        await self.desk.answer(visit, body)

    async def refuse(self, visit: Visit, refused: Refused) -> None:
        """In the shape that its clients read."""
        await self.desk.refuse(visit, refused)

    async def end(self) -> None:
        """Refuse what is under way, and stop its copies; nothing of it is left."""
        self.desk.end(Refused(503, "the model is being unloaded"))
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        await self.supervisor.stop()


def _files(supervisor: Supervisor) -> Mapping[str, str]:
    """Of the checkpoint, as told by the first copy that has loaded."""
    return next((copy.files for copy in supervisor.copies if copy.files), {})


async def _mourn(supervisor: Supervisor, desk: Texts | Scripts) -> None:
    """Nobody waits for a model whose copies have died beyond restart."""
    await supervisor.failed.wait()
    desk.end(Refused(503, f"the model is gone: {supervisor.failure}"))


def why_no_adapters(options: Options) -> str:
    """Why a model has no adapters; "" where it has."""
    if not ENGINES[options.engine].adapters:
        return f"engine {options.engine} has no adapters"
    if options.properties.get("enable_lora", "false").lower() != "true":
        return "adapters are off: set option.enable_lora=true"
    return ""


def model_name(folder: Path, options: Options) -> str:
    """What clients call the only model: as it was asked for, without the path before it."""
    place = (options.model_id or "").rstrip("/").rpartition("/")[2]
    return (folder.name if place in ("", ".", "..") else place) or "model"
