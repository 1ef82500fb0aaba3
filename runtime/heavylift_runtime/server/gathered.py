"""A transport whose writes of one turn of the event loop leave together: a reply's head with its body. Not a buffer.

A write of its own costs a call of the kernel, and wakes a client that cannot go on with a head alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Gathered(asyncio.Transport):
    """Over another one."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, closing: Callable[[], None] = lambda: None
    ) -> None:
        """`closing`: told that it is closed once all is sent, which may be never."""
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._closing = closing
        self._parts: list[bytes] = []
        self.is_closing = transport.is_closing  # type: ignore[method-assign]  # asked for with every message
        self.get_write_buffer_size = transport.get_write_buffer_size  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """At the end of this turn, unless `flush` comes before."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(bytes(data))

    def close(self) -> None:
        """Once all is sent."""
        self.flush()
        self._transport.close()
        self._closing()

    def abort(self) -> None:
        """At once."""
        self._parts.clear()
        self._transport.abort()

    def flush(self) -> None:
        """Now: nothing more belongs to it."""
        parts, self._parts = self._parts, []
        if parts and not self.is_closing():  # libuv's transports raise where asyncio's own drop what comes too late
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
