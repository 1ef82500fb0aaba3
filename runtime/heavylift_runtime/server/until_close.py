"""A reply without a length to a client of HTTP/1.0, which knows no chunks: it ends with its connection.

Not the closing: uvicorn closes every connection of such a client with its reply. It also sends it chunks, which RFC
9112, section 6.1, forbids.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def until_close(app: Any, cycle: RequestResponseCycle) -> Any:  # ASGI: uvicorn's types for it are not starlette's
    """`app`, whose reply over `cycle` has no chunks."""
    cycle.waiting_for_100_continue = False  # such a client expects nothing (RFC 9110, section 10.1.1)

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        unmeasured = False

        async def send_plainly(message: Message) -> None:
            nonlocal unmeasured
            if message["type"] == "http.response.start":
                unmeasured = all(name.lower() != b"content-length" for name, _ in message.get("headers", []))
                if unmeasured:
                    cycle.chunked_encoding = False
            elif unmeasured:
                cycle.expected_content_length = len(message.get("body", b""))  # which uvicorn counts down
            await send(message)

        await app(scope, receive, send_plainly)

    return run
