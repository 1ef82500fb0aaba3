"""Frames of a stream: JSON lines and server-sent events. Not what is in them.

https://jsonlines.org, https://html.spec.whatwg.org/multipage/server-sent-events.html. Our JSON has no line end inside,
so that a frame is one line whatever it says. An event in bytes is JSON already.
"""

from __future__ import annotations

from heavylift_runtime.server.schemas.document import dump

DONE = b"data: [DONE]\n\n"
"""OpenAI's end of a stream (https://platform.openai.com/docs/api-reference/chat/streaming)."""


def line(event: object) -> bytes:
    """One JSON line."""
    return _json(event) + b"\n"


def server_sent(event: object) -> bytes:
    """One server-sent event."""
    return b"data: " + _json(event) + b"\n\n"


def _json(event: object) -> bytes:
    return event if isinstance(event, bytes) else dump(event)
