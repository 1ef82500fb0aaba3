"""The one door of the embedded AWS: our services answer here, everything else goes on to MiniStack.

Not for browsers: binding to loopback is not enough, because a page that the user visits reaches it too, by a rebound
name or by a form. So a request whose Host or Origin is not of this machine is refused.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from .asgi import Receive, Scope, Send, fail, headers, reply_json, request_body
from .errors import ApiError

log = logging.getLogger("heavylift.front")

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
_MAX_BODY = 1 << 20  # bytes of a control-plane request; AWS's own limit is lower
_HEALTH = "/_heavylift/health"


class Service(Protocol):
    """A service of the JSON protocol."""

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Do one operation; ApiError where the service would refuse."""


class Invoked(Protocol):
    """A service of the REST protocol, by its paths."""

    def matches(self, scope: Scope) -> bool:
        """Whether a request is for it."""

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""


class Front:
    """The ASGI application. `services` by the prefix of X-Amz-Target, such as "SageMaker"."""

    def __init__(self, services: Mapping[str, Service], invocations: Sequence[Invoked], rest: Asgi, token: str) -> None:
        self._services = services
        self._invocations = invocations
        self._rest = rest
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._rest(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # nothing of ours speaks it

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = headers(scope)
        service, _, operation = given.get("x-amz-target", "").partition(".")
        if not _local(given):
            await fail(send, ApiError("AccessDenied", "the embedded AWS answers this machine only", 403))
        elif scope["path"] == _HEALTH:
            await reply_json(send, 200, {"token": self._token, "pid": os.getpid()})
        elif invoked := [each for each in self._invocations if each.matches(scope)]:
            await invoked[0].serve(scope, receive, send)
        elif service in self._services:
            await self._call(self._services[service], operation, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def _call(self, service: Service, operation: str, receive: Receive, send: Send) -> None:
        try:
            body = await request_body(receive, _MAX_BODY)
            await reply_json(send, 200, service.call(operation, _parameters(body)))
        except ApiError as error:
            await fail(send, error)
        except Exception as error:  # answered, because a closed connection tells the caller nothing
            log.exception("%s", operation)
            await fail(send, ApiError("InternalFailure", repr(error), 500))


def _parameters(body: bytes) -> dict[str, Any]:
    """The request's parameters; SerializationException for what is no JSON object."""
    try:
        parameters = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, too deep, a number of 5000 digits
        raise ApiError("SerializationException", f"the request is not JSON: {error}") from None
    if not isinstance(parameters, dict):
        raise ApiError("SerializationException", "the request is no JSON object")
    return parameters


def _local(given: Mapping[str, str]) -> bool:
    """Whether Host and, where there are any, Origin and Referer name this machine.

    A page's image or link sends no Origin, and may send no Referer, but Sec-Fetch-Site: `?Action=CreateStack` is a GET.
    """
    pages = [given[name] for name in ("origin", "referer") if name in given]
    own = given.get("sec-fetch-site") != "cross-site" and all(map(_loopback, pages))
    return own and _loopback(f"//{given.get('host', '')}")


def _loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return name in ("127.0.0.1", "::1", "localhost") or name.endswith(".localhost")
