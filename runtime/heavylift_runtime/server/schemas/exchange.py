"""What a schema is: bytes of a request in, requests to the engine out, and their tokens back into the schema's bytes.

Not HTTP, and no reading or writing of anything: every function here is bytes and values in, bytes and values out.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from heavylift_runtime.engines.engine import Piece, Request, Token
from heavylift_runtime.manner import Manner
from heavylift_runtime.server.prompts import Prompts, Templates
from heavylift_runtime.server.refused import Refused

JSON = "application/json"
JSON_LINES = "application/jsonlines"
SSE = "text/event-stream"


@dataclass(frozen=True)
class Defaults:
    """What a request leaves to the model: from its options and files; clock (Unix seconds) and ids handed in."""

    max_new_tokens: int = 64
    most_new_tokens: int = 4096
    model: str = "model"
    """The name that OpenAI's replies carry."""
    adapters: frozenset[str] = frozenset()
    """Names that OpenAI's `model` and the other schemas' `adapter_id` may ask for."""
    lmi_compat: Literal["none", "0.23", "latest"] = "none"
    """Whose replies, defaults and errors a request with `inputs` gets (docs/serving.md)."""
    tgi_compat: bool = False
    """`inputs` at /invocations are answered as TGI does."""
    output_formatter: Literal["jsonlines", "sse"] = "jsonlines"
    """The frames of LMI's streams, where Accept does not say."""
    fastertransformer: bool = False
    """Parameters mean what they mean to FasterTransformer, also where no name of its own is among them."""
    structured: bool = False
    """The engine binds answers to a form."""
    prompts: Templates = field(default_factory=Prompts)
    manner: Callable[[], Manner] = Manner
    """How the checkpoint wants tokens to be chosen, where a request does not say."""
    known: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)
    """What some parameters asked for (parameters.py): clients send the same ones again and again."""
    clock: Callable[[], float] = time.time
    identity: Callable[[], str] = lambda: uuid.uuid4().hex


@dataclass(frozen=True)
class Finished:
    """One request's whole answer. `prompt` is the prompt's tokens, where the engine tells them."""

    tokens: tuple[Token, ...]
    finish_reason: str
    prompt_tokens: int
    generated_tokens: int

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Finished:
        """From all pieces of one request, in order; the last has a finish reason."""
        last = pieces[-1]
        assert last.finish_reason is not None, "an unfinished request has no answer"
        tokens = tuple(token for piece in pieces for token in piece.tokens)
        return cls(tokens, last.finish_reason, last.prompt_tokens, last.generated_tokens)

    @property
    def text(self) -> str:
        """The answer."""
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True)
class Answer:
    """A whole HTTP reply."""

    status: int
    media_type: str
    body: bytes


class Exchange(Protocol):
    """One request of a client: what the engine is to do, and how the client hears of it. Used once, by one task.

    Whole:    `reply(finished)` → 200, `media_type`.       Failed: `failure(code, sentence)`, its own status.
    Streamed: `event(index, piece)` for each piece as it comes, in any order of requests, b"" where it says nothing
              yet; then `end()`; or, where one request failed, `broken(code, sentence)` and nothing after it.
    """

    @property
    def requests(self) -> Sequence[Request]:
        """One or more; an index is a place in here."""

    @property
    def stream(self) -> bool:
        """The client wants the tokens as they come."""

    @property
    def media_type(self) -> str:
        """Content-Type of the reply, or of the stream."""

    def reply(self, finished: Sequence[Finished]) -> bytes:
        """The whole reply: as many `finished` as there are requests, in their order."""

    def event(self, index: int, piece: Piece) -> bytes:
        """The frames of what came for the request at `index`; never called with a piece that has an error."""

    def end(self) -> bytes:
        """The frames after the last event."""

    def failure(self, code: int, sentence: str) -> Answer:
        """The reply instead of a 200."""

    def broken(self, code: int, sentence: str) -> bytes:
        """The last frames of a stream that cannot go on, after its 200."""


class Misread(Refused):
    """The request is wrong; `answer` tells so in the shape and with the status of the schema that it was written in."""

    def __init__(self, code: int, sentence: str, answer: Answer) -> None:
        super().__init__(code, sentence)
        self.answer = answer
