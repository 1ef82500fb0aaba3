"""The HTTP routes: SageMaker's GET /ping and POST /invocations, the schemas' own paths, /metrics, /v1/models.

Not a request's meaning (schemas/), not the model's processes. A request's way: the model is ready? → read the body,
bounded in size and time → the model's desk answers it → the log and the metrics are told.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from heavylift_runtime.server.attending import GONE
from heavylift_runtime.server.body import Bodies
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.texts import STOPPING
from heavylift_runtime.server.visit import Visit

_log = logging.getLogger("heavylift_runtime.server")

PATHS = ("/invocations", "/generate", "/generate_stream", "/v1/chat/completions", "/v1/completions")


class Desk(Protocol):
    """Who answers for a model."""

    def admit(self, visit: Visit) -> None:
        """Before the body is read; raises Refused where the model is not ready."""

    async def answer(self, visit: Visit, body: bytes) -> None:
        """Answer; raises Refused only where nothing was sent."""

    async def refuse(self, visit: Visit, refused: Refused) -> None:
        """Say why there is no answer."""


@dataclass(frozen=True)
class Door:
    """What the routes need."""

    health: Callable[[], tuple[bool, dict[str, object]]]  # ready, and the body of /ping
    desk: Callable[[Scope], Desk]  # of the model that is asked; raises Refused where there is none
    bodies: Bodies
    over: Callable[[Visit], None]  # is told of every visit's end
    more: tuple[Route, ...] = ()


class Ask:
    """POST: the ASGI application of every path that asks a model."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = Visit.of(scope, receive, send)
        try:
            await self._answer(visit, scope)
        except ClientDisconnect:
            visit.code, visit.error = GONE.code, GONE.sentence
        finally:
            self._door.over(visit)

    async def _answer(self, visit: Visit, scope: Scope) -> None:
        desk: Desk | None = None
        try:
            desk = self._door.desk(scope)
            desk.admit(visit)
            await desk.answer(visit, await self._door.bodies.read(Request(scope, visit.receive)))
        except Refused as refused:
            await _say(desk, visit, refused)
        except asyncio.CancelledError:  # uvicorn, once the time to drain is over
            if not visit.answered:
                await _say(desk, visit, STOPPING)
        except ClientDisconnect:
            raise
        except Exception:
            _log.exception("request %s failed in the server", visit.identity)
            if not visit.answered:
                await _say(desk, visit, Refused(500, "the server failed; its log tells more"))


async def _say(desk: Desk | None, visit: Visit, refused: Refused) -> None:
    if desk is None:
        await visit.refuse(refused)
    else:
        await desk.refuse(visit, refused)


def build(door: Door) -> Starlette:
    """The ASGI application."""

    async def ping(request: Request) -> Response:
        ready, body = door.health()
        return as_json(body, 200 if ready else 503)

    ask = Ask(door)
    asks = [Route(path, ask, methods=["POST"]) for path in PATHS]
    return Starlette(
        routes=[Route("/ping", ping), *asks, *door.more],
        exception_handlers={HTTPException: _no_route, Refused: _refused, Exception: _our_fault},
    )


def as_json(document: object, code: int = 200) -> Response:
    """JSON in ASCII: a sentence may quote half of a surrogate pair, which UTF-8 cannot hold."""
    return Response(json.dumps(document).encode(), code, media_type="application/json")


def _error(code: int, sentence: str) -> Response:
    return as_json({"error": sentence, "code": code}, code)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _error(error.code, error.sentence)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = f"{request.method} {request.url.path[:80]!r}: use GET /ping or POST /invocations"
    reply = _error(error.status_code, sentence)
    reply.headers.update(error.headers or {})
    return reply


async def _our_fault(request: Request, error: Exception) -> Response:
    return _error(500, "the server failed; its log tells more")
