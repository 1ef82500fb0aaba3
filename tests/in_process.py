"""The HTTP routes in this process, over a parrot that steps. Not the server process (served.py), and no test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import uvicorn
import uvloop
from starlette.routing import Route
from starlette.types import ASGIApp

from heavylift_runtime.server import app, body, patience
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.rolling import Rolling
from heavylift_runtime.server.schemas import Defaults, failure, read
from heavylift_runtime.server.texts import Texts
from heavylift_runtime.server.visit import Visit
from tests.stepping import Parrot, ThreadCopy


class Serving:
    """A server on a free port, its line, its parrot, and the visits that have ended."""

    def __init__(self, parrot: Parrot, limit: int, budget: float, refused: Refused | None) -> None:
        self.parrot = parrot
        self.line = Rolling(limit, stall=60)
        self.copy = ThreadCopy(parrot, self.line)
        self.visits: list[Visit] = []
        self.port = 0
        self._texts = Texts(self.line, read, failure, Defaults(), budget)
        self._refused = refused

    def admit(self, visit: Visit) -> None:
        if self._refused is not None:
            raise self._refused

    async def answer(self, visit: Visit, body: bytes) -> None:
        await self._texts.answer(visit, body)

    async def refuse(self, visit: Visit, refused: Refused) -> None:
        await self._texts.refuse(visit, refused)

    @property
    def app(self) -> ASGIApp:
        health: dict[str, object] = {"status": "ready" if self._refused is None else self._refused.sentence}
        ask = app.Ask(lambda scope: self, body.Bodies(), self.visits.append)
        routes = [Route(path, ask, methods=["POST"]) for path in app.PATHS]
        return app.build(lambda: (self._refused is None, health), lambda: ["model"], lambda: b"", routes)

    async def ask(self, document: object, **arguments: Any) -> httpx.Response:
        async with httpx.AsyncClient(timeout=10, verify=False) as client:
            return await client.post(f"http://127.0.0.1:{self.port}/invocations", json=document, **arguments)


Story = Callable[[Serving], Awaitable[None]]


def with_server(
    story: Story,
    *,
    parrot: Parrot | None = None,
    limit: int = 2,
    budget: float = 10,
    refused: Refused | None = None,
    seconds: float = 20,
) -> None:
    """Run a story beside the server on a free port of this process."""

    async def run() -> None:
        serving = Serving(parrot or Parrot(), limit, budget, refused)
        await serving.copy.start()
        config = uvicorn.Config(
            serving.app, port=0, http=patience.ImpatientProtocol, lifespan="off", log_config=None, ws="none"
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        serving.port = server.servers[0].sockets[0].getsockname()[1]
        try:
            await asyncio.wait_for(story(serving), seconds)
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.gather(task, return_exceptions=True)
            await serving.copy.end()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as serve.py does
        runner.run(run())


async def until(true: Callable[[], object]) -> None:
    """Until something is true; the story's own limit ends it otherwise."""
    while not true():
        await asyncio.sleep(0.005)
