"""The engine in a rank's own loop, its clients' requests and answers as messages, and no server. Not a benchmark.

What of a server's cost no server can be without: each answer is a message, each request is one, and a client that has
an answer is back with its next request one step later, as fast as any could be where a step takes longer than the way
there and back. Nobody is woken by these messages, and nobody works beside the engine, so it costs less than it would;
what the clients' side of them takes is not counted.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from heavylift_runtime.engines.engine import Request
from heavylift_runtime.wire import Channel, Message


class Relay:
    """A rank's channel (heavylift_runtime/steps.py) with all clients at its other end."""

    def __init__(self, streams: int, seconds: float, requests: Iterator[Request]) -> None:
        self.tokens, self.seconds = 0, 0.0  # of all answers, until the last one
        self._requests, self._start = enumerate(requests), time.perf_counter()
        self._until, self._open = self._start + seconds, 0
        self._clients = 0.0  # seconds of theirs
        self._ours, self._theirs = map(Channel, socket.socketpair())
        self._ready, self._next = streams, 0  # clients that ask before the next step, and before the one after it

    def poll(self) -> Message | None:
        """The requests that have come since the last step; then, once, None; when all are answered, the end."""
        asking, self._ready = self._ready, 0
        if asking and time.perf_counter() < self._until:
            with self._client():
                self._open += asking
                self._ours.send({"type": "submit", "rows": [self._row() for _ in range(asking)]})
            return self._theirs.receive()
        if not self._open and not self._next:
            self.seconds = time.perf_counter() - self._start - self._clients
            return Message({"type": "stop"})
        self._ready, self._next = self._next, 0
        return None

    def receive(self) -> Message:
        """As poll, in the end."""
        while (message := self.poll()) is None:
            pass
        return message

    def send(self, header: dict[str, Any]) -> None:
        """A step's answers."""
        self._theirs.send(header)
        with self._client():
            for _, _, finish, _, generated, error in self._ours.receive().header["pieces"]:
                assert finish is not None, error
                self.tokens += generated
                self._open -= 1
                self._next += 1

    def close(self) -> None:
        for each in (self._ours, self._theirs):
            each.close()

    def _row(self) -> dict[str, Any]:
        key, request = next(self._requests)
        return {"key": key, "request": request.to_json(), "stream": False, "joined": True}

    @contextmanager
    def _client(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._clients += time.perf_counter() - began
