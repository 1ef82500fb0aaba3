"""The ways in which a request fails, each with its kind.

Not their counting (measurement.py).
"""

from __future__ import annotations


class InvocationFailed(Exception):
    """A request that got no usable reply. `kind` is model, throttled, unavailable, refused, server, timeout,
    connection, stream (it broke after it had begun) or reply."""

    def __init__(self, kind: str, message: str, http_status: int | None = None) -> None:
        self.kind, self.message, self.http_status = kind, message, http_status
        super().__init__(f"{kind}: {message}")


def by_status(status: int, message: str) -> InvocationFailed:
    """The failure that an HTTP status means: 424 the model failed, 429 too many requests, 503 no room or no worker."""
    kind = {424: "model", 429: "throttled", 503: "unavailable"}.get(status, "server" if status >= 500 else "refused")
    return InvocationFailed(kind, message, status)
