"""Stateful sessions of a text model: a name for requests that belong together. Scripts have their own.

SageMaker's InvokeEndpoint passes SessionId on as X-Amzn-SageMaker-Session-Id, `NEW_SESSION` to open one; the body says
`{"requestType": "NEW_SESSION"}` or `{"requestType": "CLOSE"}`, and the reply's headers name the session (LMI's rules).
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.visit import JSON, Visit

HEADER = "x-amzn-sagemaker-session-id"
_NEW, _CLOSE = "NEW_SESSION", "CLOSE"
_LARGEST = 200  # bytes of a body that opens or closes a session
_MOST = 100_000  # sessions


class Sessions:
    """The open ones, and when each ends: seconds of a clock that nobody sets. What is told is by `wall`, in seconds
    since the epoch."""

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._seconds = seconds
        self._clock, self._wall = clock, wall
        self._ends: dict[str, float] = {}

    async def answer(self, visit: Visit, body: bytes) -> bool:
        """Whether this was about a session, and is answered; Refused for a session that is not open."""
        given, asked = visit.headers.get(HEADER), _asked(body)
        now = self._clock()
        self._ends = {each: end for each, end in self._ends.items() if end > now}
        if asked == _NEW or (given == _NEW and asked is None):
            if len(self._ends) >= _MOST:
                raise Refused(503, f"{_MOST} sessions are open: close some", retry_after=60)
            identity = str(uuid.uuid4())
            self._ends[identity] = now + self._seconds
            until = datetime.fromtimestamp(self._wall() + self._seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            await _say(visit, "opened", identity, {"x-amzn-sagemaker-new-session-id": f"{identity}; Expires={until}"})
            return True
        if given is not None and given not in self._ends:
            raise Refused(400, f"the session {given[:80]!r} is not open: it has expired, was closed, or never was")
        if asked == _CLOSE:
            if given is None:
                raise Refused(400, f"a session is closed by its name: send the header {HEADER}")
            del self._ends[given]
            await _say(visit, "closed", given, {"x-amzn-sagemaker-closed-session-id": given})
            return True
        if given is not None:
            self._ends[given] = now + self._seconds  # who speaks stays
        return False


async def _say(visit: Visit, what: str, identity: str, headers: dict[str, str]) -> None:
    await visit.reply(200, JSON, json.dumps({"result": f"session {identity} is {what}"}).encode(), headers)


def _asked(body: bytes) -> str | None:
    """The `requestType` of a body that has nothing else."""
    if len(body) > _LARGEST or b"requestType" not in body:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    asked = document.get("requestType") if isinstance(document, dict) else None
    return asked if asked in (_NEW, _CLOSE) else None
