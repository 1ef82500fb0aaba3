"""One asynchronous request: what it asked, where its result goes, and what a topic is told when it has ended.

Not its turn, nor its answer: asynchronous.py. The message's fields are those of Amazon SageMaker's developer guide,
"Check prediction results" of asynchronous inference.
"""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .endpoints import Endpoint
from .forward import PREFIX


@dataclass(frozen=True)
class Waiting:
    """Moments in seconds since the epoch. `body` is None where the input lies in S3; `failure` is None where nobody
    asked for failures. `context` is that of the request, with its account and region."""

    endpoint: Endpoint
    id: str
    given: dict[str, str]
    body: bytes | None
    output: str
    failure: str | None
    received: float
    context: contextvars.Context

    @property
    def known_as(self) -> str:
        """InferenceId, or ours."""
        return self.given.get(f"{PREFIX}inference-id", self.id)

    def seconds(self, name: str, default: int) -> int:
        """A limit that the request may set."""
        return int(self.given.get(PREFIX + name, default))

    def notice(self, region: str, reason: str | None, kind: str) -> dict[str, Any]:
        """What its topic is told; `reason` is that of a failure, `kind` the result's content type."""
        asked = {"endpointName": self.endpoint.name, "accept": self.given.get(f"{PREFIX}accept", "*/*")}
        if f"{PREFIX}inputlocation" in self.given:
            asked["inputLocation"] = self.given[f"{PREFIX}inputlocation"]
        told: dict[str, Any] = {
            "awsRegion": region,
            "eventTime": _shown(datetime.now(UTC)),
            "receivedTime": _shown(datetime.fromtimestamp(self.received, UTC)),
            "invocationStatus": "Completed" if reason is None else "Failed",
            "requestParameters": asked,
            "inferenceId": self.known_as,
            "eventVersion": "1.0",
            "eventSource": "aws:sagemaker",
            "eventName": "InferenceResult",
        }
        if reason is None:
            return {**told, "responseParameters": {"contentType": kind, "outputLocation": self.output}}
        where = {} if self.failure is None else {"outputLocation": self.failure}
        return {**told, "failureReason": reason[:1024], "responseParameters": where}


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
