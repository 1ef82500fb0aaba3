"""One HTTP request as the server lives through it: who asks, what was answered, when. No payload is kept here."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope, Send

from heavylift_runtime.server.attending import Departure
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.schemas import Answer
from heavylift_runtime.server.times import with_times

JSON = "application/json"
_ID_HEADERS = ("x-amzn-sagemaker-inference-id", "x-request-id")
_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_LONGEST_ID = 128
_BODILESS = (204, 304)  # RFC 9110, section 6.4.1: they have no body, whatever a script made for one


@dataclass
class Visit:
    """Times in seconds of the monotonic clock; what is None was not reached."""

    path: str
    headers: Mapping[str, str]
    departure: Departure
    send: Send
    identity: str
    began: float = field(default_factory=time.monotonic)
    model: str = ""
    rows: int = 0
    stream: bool = False
    code: int | None = None
    error: str | None = None
    finish: str | None = None
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seated: float | None = None
    opened: float | None = None
    gaps: list[tuple[float, int]] = field(default_factory=list)  # between a stream's tokens, and how many were equal

    @classmethod
    def of(cls, scope: Scope, send: Send) -> Visit:
        """A request that has just arrived. Its id is SageMaker's, or its own, or a new one. Of a header that is there
        several times, the first counts."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        given = next((headers[name] for name in _ID_HEADERS if name in headers), "")
        sound = given.isascii() and given.isprintable() and 0 < len(given) <= _LONGEST_ID
        return cls(scope["path"], headers, Departure.of(scope), send, given if sound else uuid.uuid4().hex)

    @property
    def answered(self) -> bool:
        """The status has been sent."""
        return self.code is not None

    async def reply(self, code: int, media_type: str, body: bytes, more: Mapping[str, str] | None = None) -> None:
        """Send a whole reply."""
        own = {"content-type": media_type, "content-length": str(len(body))}
        if code in _BODILESS:
            own, body = {}, b""
        await self._start(code, own | dict(more or {}))
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def refuse(self, refused: Refused, answer: Answer | None = None) -> None:
        """Send why there is no answer, with when to come back (RFC 9110, section 10.2.3). `answer`: a schema's way to
        say so, with a status of its own."""
        self.error = refused.sentence
        if answer is None:  # json.dumps writes ASCII: a sentence may quote half of a surrogate pair
            answer = Answer(refused.code, JSON, json.dumps({"error": refused.sentence, "code": refused.code}).encode())
        later = {} if refused.retry_after is None else {"retry-after": str(refused.retry_after)}
        await self.reply(answer.status, answer.media_type, answer.body, later)

    async def open(self, media_type: str, code: int = 200, more: Mapping[str, str] | None = None) -> None:
        """Begin a reply in chunks."""
        own = {} if code in _BODILESS else {"content-type": media_type}
        await self._start(code, own | {"cache-control": "no-store"} | dict(more or {}))

    async def chunk(self, data: bytes) -> None:
        """Send a part of it; waits while the client is behind."""
        if data and self.code not in _BODILESS:
            await self.send({"type": "http.response.body", "body": data, "more_body": True})

    def pour(self, data: bytes) -> None:
        """As chunk, at once; where the client takes what it is sent (`departure.reads`)."""
        sending = self.chunk(data)
        try:
            sending.send(None)
        except StopIteration:
            return
        sending.close()
        raise AssertionError("a client that takes what it is sent makes nobody wait")

    async def close(self) -> None:
        """End it."""
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, code: int, headers: Mapping[str, str]) -> None:
        """The status line, and what every reply carries: the request's id, and the custom attributes as they came; with
        the times until now, where they are asked for."""
        self.code = code
        whole = {"x-request-id": self.identity}
        if (asked := self.headers.get(_ATTRIBUTES)) is not None:
            whole[_ATTRIBUTES] = asked
        whole |= {name.lower(): value for name, value in headers.items()}
        if asked is not None:
            whole[_ATTRIBUTES] = with_times(whole[_ATTRIBUTES], asked, self._times(time.monotonic()))
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in whole.items()]
        await self.send({"type": "http.response.start", "status": code, "headers": raw})

    def _times(self, now: float) -> dict[str, float | None]:
        """Until the engine had it, until its first token, until the reply's head: seconds since it began."""
        reached = {"queue": self.seated, "first": self.opened, "total": now}
        return {name: None if then is None else then - self.began for name, then in reached.items()}

    def to_json(self, now: float) -> dict[str, Any]:
        """For the log. Milliseconds since it began."""

        def since(then: float | None) -> float | None:
            return None if then is None else round((then - self.began) * 1000, 3)

        return {
            "id": self.identity,
            "path": self.path,
            "model": self.model or None,
            "code": self.code,
            "error": self.error,
            "rows": self.rows or None,
            "stream": self.stream or None,
            "finish_reason": self.finish,
            "prompt_tokens": self.prompt_tokens or None,
            "generated_tokens": self.generated_tokens or None,
            "queue_ms": since(self.seated),
            "first_token_ms": since(self.opened),
            "total_ms": since(now),
        }
