"""The HTTP routes: SageMaker's GET /ping and POST /invocations, the schemas' own paths, /metrics, /v1/models.

Not a request's meaning (schemas/), not the model's processes. A request's way: the model is ready? → read the body,
bounded in size and time → the model's desk answers it → the log and the metrics are told.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from heavylift_runtime.options import Options
from heavylift_runtime.server.attending import GONE
from heavylift_runtime.server.body import Bodies
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.schemas.reading import INVOCATIONS, PATHS
from heavylift_runtime.server.texts import FAILED, STOPPING
from heavylift_runtime.server.visit import Visit

_log = logging.getLogger("heavylift_runtime.server")
__all__ = ["INVOCATIONS", "PATHS", "Ask", "Desk", "as_json", "batches", "build"]


class Desk(Protocol):
    """Who answers for a model."""

    def admit(self, visit: Visit) -> None:
        """Before the body is read; raises Refused where the model is not ready."""

    async def answer(self, visit: Visit, body: bytes) -> None:
        """Answer; raises Refused only where nothing was sent."""

    async def refuse(self, visit: Visit, refused: Refused) -> None:
        """Say why there is no answer."""


class Ask:
    """POST: the ASGI application of every path that asks a model."""

    def __init__(self, desk: Callable[[Scope], Desk], bodies: Bodies, over: Callable[[Visit], None]) -> None:
        """`desk`: of the model that is asked, raises Refused where there is none; `over`: told of every visit's end."""
        self._desk = desk
        self._bodies = bodies
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = Visit.of(scope, send)
        visit.path = _route(visit)
        try:
            await self._answer(visit, scope, receive)
        except ClientDisconnect:
            why = visit.departure.why or GONE
            visit.code, visit.error = why.code, why.sentence
        finally:
            self._over(visit)

    async def _answer(self, visit: Visit, scope: Scope, receive: Receive) -> None:
        desk: Desk | None = None
        try:
            desk = self._desk(scope)
            desk.admit(visit)
            await desk.answer(visit, await self._bodies.read(visit.headers, receive))
        except Refused as refused:
            await _say(desk, visit, refused)
        except asyncio.CancelledError:  # uvicorn, once the time to drain is over
            if not visit.answered:
                await _say(desk, visit, STOPPING)
            elif visit.error is None:  # in the middle of what the client did not read
                visit.error = STOPPING.sentence
        except ClientDisconnect:
            raise
        except Exception:
            _log.exception("request %s failed in the server", visit.identity)
            if not visit.answered:
                await _say(desk, visit, FAILED)
            elif visit.error is None:
                visit.error = FAILED.sentence


async def _say(desk: Desk | None, visit: Visit, refused: Refused) -> None:
    if desk is None:
        await visit.refuse(refused)
    else:
        await desk.refuse(visit, refused)


def _route(visit: Visit) -> str:
    """The path whose schema is meant: of SageMaker's one door, or what its custom attribute `route=` names (vLLM)."""
    if visit.path in PATHS and visit.path != INVOCATIONS:
        return visit.path
    for each in visit.headers.get("x-amzn-sagemaker-custom-attributes", "").split(";"):
        name, _, path = each.strip().partition("=")
        if name == "route" and path in PATHS:
            return path
    return INVOCATIONS


def build(
    health: Callable[[], tuple[bool, dict[str, object]]],
    models: Callable[[], Sequence[str]],
    page: Callable[[], bytes],
    routes: Sequence[BaseRoute],
) -> ASGIApp:
    """The ASGI application. `health`: ready, and the body of /ping; `models`: their names; `page`: that of /metrics."""

    async def ping(request: Request) -> Response:
        ready, body = health()
        return as_json(body, 200 if ready else 503)

    async def metrics(request: Request) -> Response:
        return Response(page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def listed(request: Request) -> Response:
        return as_json({"object": "list", "data": [_described(name) for name in models()]})

    async def one(request: Request) -> Response:
        name = str(request.path_params["name"])
        if name not in models():
            raise Refused(404, f"no model {name[:80]!r}: GET /v1/models lists them")
        return as_json(_described(name))

    own = [
        Route("/ping", ping),
        Route("/metrics", metrics),
        Route("/v1/models", listed),
        Route("/v1/models/{name}", one),
    ]
    application = Starlette(
        routes=[*own, *routes],
        exception_handlers={HTTPException: _no_route, Refused: _refused, Exception: _our_fault},
    )
    application.router.redirect_slashes = False  # no client of a contract is off by a slash, and it costs a URL
    asks = {
        route.path: route.app
        for route in routes
        if isinstance(route, Route) and isinstance(route.endpoint, Ask) and not route.param_convertors
    }

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        """What asks a model goes straight to it: the framework's layers cost as much as reading the request."""
        asked = asks.get(scope["path"]) if scope["method"] == "POST" else None
        await (application if asked is None else asked)(scope, receive, send)

    return front


def batches(options: Options) -> Callable[[Request], Awaitable[Response]]:
    """GET /execution-parameters: how a batch transform may ask; one record a request, for a body is one request.

    SageMaker's developer guide, "Use Your Own Inference Code with Batch Transform".
    """
    told = {
        "MaxConcurrentTransforms": min(options.capacity * options.workers, options.job_queue_size),
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": max(options.max_request_size // 2**20, 1),
    }

    async def answer(request: Request) -> Response:
        return as_json(told)

    return answer


def _described(name: str) -> dict[str, object]:
    """A model, as OpenAI lists it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "heavylift"}


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
    sentence = f"{request.method} {request.scope['path'][:80]!r}: use GET /ping or POST /invocations"
    reply = _error(error.status_code, sentence)
    reply.headers.update(error.headers or {})
    return reply


async def _our_fault(request: Request, error: Exception) -> Response:
    return _error(500, "the server failed; its log tells more")
