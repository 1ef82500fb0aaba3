"""The HTTP routes: GET /ping and POST /invocations. Not the request's meaning (dialects.py), not the model's processes.

A request's way: the model is ready? → read the body, bounded in size and time → the dialect reads it → its rows wait in
the line → its results become the reply. A client that goes away leaves the line.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heavylift_runtime.server.dialects import Dialect
from heavylift_runtime.server.line import Job, Line
from heavylift_runtime.server.refused import Refused

MAX_BODY = 6 * 2**20  # bytes; SageMaker's InvokeEndpoint: botocore's BodyBlob has max 6291456
BODY_SECONDS = 30.0


@dataclass(frozen=True)
class Door:
    """What the routes need: the model's health, its dialect, the line, and a request's time in seconds."""

    health: Callable[[], tuple[bool, dict[str, object]]]  # ready, and the body of /ping
    dialect: Dialect
    line: Line
    budget: float


def build(door: Door) -> Starlette:
    """The ASGI application."""

    async def ping(request: Request) -> Response:
        ready, body = door.health()
        return _Ascii(body, 200 if ready else 503)

    async def invocations(request: Request) -> Response:
        try:
            return await _invoke(door, request)
        except Refused as refused:
            return _error(refused.code, refused.sentence)
        except asyncio.CancelledError:  # uvicorn, once the time to drain is over
            return _error(503, "the server stops and could not wait for the model any longer")

    return Starlette(
        routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])],
        exception_handlers={HTTPException: _no_route, ClientDisconnect: _nobody, Exception: _our_fault},
    )


async def _invoke(door: Door, request: Request) -> Response:
    ready, body = door.health()
    if not ready:
        raise Refused(503, f"the model is not ready: {body['status']}")
    work = door.dialect.read(request.headers, await _body(request))
    job = door.line.join(work.rows)
    try:
        results = await _first(job, request, door.budget)
    finally:
        door.line.leave(job)
    return work.reply(results)


async def _first(job: Job, request: Request, budget: float) -> list[object]:
    """The results, unless the client goes or the time is up before."""
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        either: set[asyncio.Future[Any]] = {job.done, gone}
        await asyncio.wait(either, timeout=budget, return_when=asyncio.FIRST_COMPLETED)
        if job.done.done():
            return job.done.result()
        if gone.done():
            raise ClientDisconnect
    finally:
        gone.cancel()
    if job.next == 0:
        raise Refused(503, f"the request waited {budget:g} s in the queue (option.predict_timeout)")
    raise Refused(424, f"the model did not answer within {budget:g} s (option.predict_timeout)")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    """The whole body; refused by its declared length before it is read, or as soon as it has grown too large."""
    declared = request.headers.get("content-length")  # the server has checked that it is a number
    if declared is not None and int(declared) > MAX_BODY:
        raise Refused(413, f"the body has {declared} bytes: at most {MAX_BODY}")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise Refused(413, f"the body has more than {MAX_BODY} bytes")
    except TimeoutError as error:
        raise Refused(408, f"the body did not arrive within {BODY_SECONDS:g} s") from error
    return bytes(body)


class _Ascii(JSONResponse):
    """JSON for sentences that quote anything, also half of a surrogate pair, which UTF-8 cannot hold."""

    def render(self, content: object) -> bytes:
        return json.dumps(content).encode()


def _error(code: int, sentence: str) -> JSONResponse:
    return _Ascii({"error": sentence, "code": code}, code)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = f"{request.method} {request.url.path[:80]!r}: use GET /ping or POST /invocations"
    return JSONResponse({"error": sentence, "code": error.status_code}, error.status_code, error.headers)


async def _nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; nginx's number for a client that went away


async def _our_fault(request: Request, error: Exception) -> Response:
    return _error(500, "the server failed; its log tells more")
