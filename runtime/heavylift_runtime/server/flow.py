"""A script's answer: whole, or as a flow of chunks that it is still making. Not a text's tokens: rolling.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from heavylift_runtime.server.refused import Refused

MOST_UNREAD = 4 * 2**20
"""Bytes of a flow that its client may leave unread; then it is too slow, and its flow ends."""


@dataclass(frozen=True)
class Whole:
    """An answer in one piece."""

    code: int
    headers: Mapping[str, str]
    body: bytes


class Flow:
    """An answer in chunks. `over` is set once the script makes no more of them."""

    def __init__(self, code: int, headers: Mapping[str, str], cancel: Callable[[], None]) -> None:
        self.code = code
        self.headers = headers
        self.over = asyncio.Event()
        self.news = asyncio.Event()
        self.refused: Refused | None = None
        self._cancel = cancel
        self._unread: list[bytes] = []
        self._size = 0

    def put(self, chunk: bytes) -> None:
        """The script has made a chunk."""
        if self.refused is not None:
            return
        self._unread.append(chunk)
        self._size += len(chunk)
        self.news.set()
        if self._size > MOST_UNREAD:
            self.stop(Refused(408, f"the client left {MOST_UNREAD} bytes of its stream unread"))

    def take(self) -> bytes:
        """What the client has not got yet."""
        taken, self._unread, self._size = b"".join(self._unread), [], 0
        self.news.clear()
        return taken

    def finish(self, refused: Refused | None = None) -> None:
        """The script makes no more; `refused`: it failed."""
        if self.refused is None:
            self.refused = refused
        self.over.set()
        self.news.set()

    def stop(self, refused: Refused) -> None:
        """The client gets no more: the script is asked to stop."""
        if self.refused is None and not self.over.is_set():
            self.refused = refused
            self._cancel()
            self.news.set()
