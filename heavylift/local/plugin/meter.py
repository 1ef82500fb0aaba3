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

    def __init__(self, endpoint: str, *, stream: bool, component: str | None = None) -> None:
        self._endpoint, self._prefix, self._component = endpoint, "FirstChunk" if stream else "", component
        self._began = time.monotonic()

    def watch(self, variant: str, send: Send) -> Send:
        """The container is asked now. Puts the metrics when a good answer, or its first part, is sent; of an inference
        component under its own name, too."""
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
        of = [{"EndpointName": self._endpoint, "VariantName": variant}]
        of += [] if self._component is None else [{"InferenceComponentName": self._component}]
        told = {"ModelLatency": time.monotonic() - asked, "OverheadLatency": asked - self._began}
        for name, seconds in told.items():
            for dimensions in of:
                seams.put_metric(f"{self._prefix}{name}", seconds * 1e6, dimensions, "Microseconds")


def put_async(
    endpoint: str, variant: str, *, failed: bool, model_s: float, waited_s: float, total_s: float, left: int
) -> None:
    """Of an asynchronous request that has ended, `left` others still waiting (developer guide, "Monitor asynchronous
    endpoint")."""
    of = {"EndpointName": endpoint, "VariantName": variant}
    if failed:
        seams.put_metric("InvocationFailures", 1, of, "Count")
    else:
        seams.put_metric("InvocationsProcessed", 1, of, "Count")
        seams.put_metric("ModelLatency", model_s * 1e6, of, "Microseconds")
        seams.put_metric("TotalProcessingTime", total_s * 1e3, of, "Milliseconds")
    seams.put_metric("TimeInBacklog", waited_s * 1e3, of, "Milliseconds")
    seams.put_metric("ApproximateBacklogSize", left, {"EndpointName": endpoint}, "Count")


def put_no_capacity(component: str) -> None:
    """An inference component without a copy was asked."""
    seams.put_metric("NoCapacityInvocationFailures", 1, {"InferenceComponentName": component}, "Count")
