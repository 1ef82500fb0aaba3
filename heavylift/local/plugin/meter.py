"""SageMaker's metrics of one invocation, put into the embedded AWS's CloudWatch.

Not once a minute, as SageMaker does: at once. ModelLatency is the container's time, OverheadLatency what is added to it
here; of a stream, FirstChunkModelLatency and FirstChunkOverheadLatency, until its first part. All in microseconds
(Amazon SageMaker developer guide, "Amazon SageMaker AI metrics in Amazon CloudWatch").
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

from . import seams
from .asgi import Send


class Meter:
    """Begins when the request is here; `watch` sees its answer go."""

    def __init__(self, endpoint: str, *, stream: bool) -> None:
        self._endpoint, self._prefix = endpoint, "FirstChunk" if stream else ""
        self._began = time.monotonic()

    def watch(self, variant: str, send: Send) -> Send:
        """The container is asked now. Puts the metrics when a good answer, or its first part, is sent."""
        asked, good = time.monotonic(), False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal good
            if good and message["type"] == "http.response.body":
                good = False
                self._put(variant, asked)
            good = good or message.get("status") == 200
            await send(message)

        return watched

    def _put(self, variant: str, asked: float) -> None:
        dimensions = {"EndpointName": self._endpoint, "VariantName": variant}
        told = {"ModelLatency": time.monotonic() - asked, "OverheadLatency": asked - self._began}
        for name, seconds in told.items():
            seams.put_metric(f"{self._prefix}{name}", seconds * 1e6, dimensions, "Microseconds")
