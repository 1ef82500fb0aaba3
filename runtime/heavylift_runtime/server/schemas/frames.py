"""Frames of a stream: JSON lines and server-sent events. Not what is in them.

https://jsonlines.org, https://html.spec.whatwg.org/multipage/server-sent-events.html. Our JSON has no line end inside,
so that a frame is one line whatever it says.
"""

from __future__ import annotations

from heavylift_runtime.server.schemas.document import dump

DONE = b"data: [DONE]\n\n"
"""OpenAI's end of a stream (https://platform.openai.com/docs/api-reference/chat/streaming)."""


def line(event: object) -> bytes:
    """One JSON line."""
    return dump(event) + b"\n"


def server_sent(event: object) -> bytes:
    """One server-sent event."""
    return b"data: " + dump(event) + b"\n\n"
