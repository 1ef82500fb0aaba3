"""What is told of a visit once its reply has left: a line of the log, the metrics. Not the reply.

They take as long as reading a request, and a client that has its reply asks again at once: it would wait for them, and
so would one on the server's own processor, which it gets when the server has nothing to do.
"""

from __future__ import annotations

import asyncio
import time

from heavylift_runtime.server.journal import Journal
from heavylift_runtime.server.metrics import Metrics
from heavylift_runtime.server.visit import Visit

LATER = 0.005
"""Seconds: by then the next request is with the model, and the server waits."""


class Afterwards:
    """Visits that have ended and are not told yet."""

    def __init__(self, journal: Journal, metrics: Metrics) -> None:
        self._journal, self._metrics = journal, metrics
        self._ended: list[tuple[Visit, float]] = []  # and when, in seconds of the monotonic clock

    def over(self, visit: Visit) -> None:
        """A visit has ended; on the event loop."""
        if not self._ended:
            asyncio.get_running_loop().call_later(LATER, self.tell)
        self._ended.append((visit, time.monotonic()))

    def tell(self) -> None:
        """All that have ended until now, in their order."""
        ended, self._ended = self._ended, []
        for visit, now in ended:
            self._journal.write("request", time.monotonic() - now, **visit.to_json(now))
            self._metrics.over(visit, now)

    def page(self) -> bytes:
        """/metrics, with every visit whose reply has left."""
        self.tell()
        return self._metrics.page()
