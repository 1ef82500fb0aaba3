"""What ASGI needs to read a request and answer it. Not what is answered."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from .errors import ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = {"Content-Type": "application/x-amz-json-1.1"}


def headers(scope: Scope) -> dict[str, str]:
    """The request's headers by lower-case name."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def request_body(receive: Receive, most: int) -> bytes:
    """The whole body; ApiError 413 when it is longer than `most` bytes."""
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ApiError("ValidationError", "the caller hung up before its request was whole")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise ApiError("ValidationError", f"the request has more than {most} bytes", 413)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


async def reply(send: Send, status: int, body: bytes, given: Mapping[str, str]) -> None:
    """Answer with a whole body."""
    lines = {**given, "Content-Length": str(len(body)), "x-amzn-RequestId": str(uuid.uuid4())}
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def reply_json(send: Send, status: int, body: Mapping[str, Any]) -> None:
    """Answer with JSON."""
    await reply(send, status, json.dumps(body).encode(), JSON)


async def fail(send: Send, error: ApiError) -> None:
    """Answer with an AWS error, in the forms that every SDK reads."""
    body = {"__type": error.code, "message": str(error), "Message": str(error), **error.members}
    await reply(send, error.status, json.dumps(body).encode(), {**JSON, "x-amzn-ErrorType": error.code})
