"""How a request's bytes become rows for the model, and its results a reply: one dialect for each kind of engine.

Not the HTTP routes (app.py), not the rank's side (worker.py). Each dialect packs a batch of rows into one message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response

from heavylift_runtime.server.invocation import Invocation, read_invocation
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.wire import Message


class Work(Protocol):
    """One request: the rows for the model, and how their results become the reply."""

    @property
    def rows(self) -> Sequence[Any]: ...

    def reply(self, results: Sequence[Any]) -> Response: ...


class Dialect(Protocol):
    """Reads requests, packs rows of a batch into a message for rank 0, unpacks its answer into their results."""

    def read(self, headers: Mapping[str, str], body: bytes) -> Work: ...

    def pack(self, rows: Sequence[Any]) -> Message: ...

    def unpack(self, answer: Message) -> Sequence[Any]: ...


@dataclass(frozen=True)
class TextWork:
    """Prompts in, the reply of docs/formats.md out."""

    invocation: Invocation

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        most = self.invocation.max_new_tokens
        return [{"prompt": prompt, "max_new_tokens": most} for prompt in self.invocation.prompts]

    def reply(self, results: Sequence[Mapping[str, Any]]) -> Response:
        prompt = sum(result["prompt_tokens"] for result in results)
        completion = sum(result["generated_tokens"] for result in results)
        document: dict[str, Any] = {
            "outputs": [result["text"] for result in results],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
        }
        if self.invocation.details:
            names = ("finish_reason", "prompt_tokens", "generated_tokens")
            document["details"] = [{name: result[name] for name in names} for result in results]
        return JSONResponse(document)


@dataclass(frozen=True)
class TextDialect:
    """JSON with `inputs`, for engines that generate text."""

    default_max_new_tokens: int

    def read(self, headers: Mapping[str, str], body: bytes) -> TextWork:
        given = headers.get("content-type", "application/json")
        if given.partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, f"Content-Type must be application/json: got {given[:80]!r}")
        accept = headers.get("accept", "*/*").lower()
        if not any(each in accept for each in ("application/json", "application/*", "*/*")):
            raise Refused(406, f"the reply is application/json, which Accept leaves out: got {accept[:80]!r}")
        return TextWork(read_invocation(body, self.default_max_new_tokens))

    def pack(self, rows: Sequence[dict[str, Any]]) -> Message:
        return Message({"type": "batch", "rows": list(rows)})

    def unpack(self, answer: Message) -> Sequence[dict[str, Any]]:
        replies: Sequence[dict[str, Any]] = answer.header["replies"]
        return replies


@dataclass(frozen=True)
class CallWork:
    """Any bytes in, any bytes out: the script decides."""

    message: Message

    @property
    def rows(self) -> Sequence[Message]:
        return (self.message,)

    def reply(self, results: Sequence[Message]) -> Response:
        (answer,) = results
        return Response(answer.body, answer.header["code"], answer.header["headers"])


class CallDialect:
    """The request as it is, for a script; of the headers only those that SageMaker passes on."""

    def read(self, headers: Mapping[str, str], body: bytes) -> CallWork:
        if not body:
            raise Refused(400, "the body is empty")
        passed = {
            name: value
            for name, value in headers.items()
            if name in ("content-type", "accept") or name.startswith("x-amzn-sagemaker-")
        }
        return CallWork(Message({"type": "call", "properties": passed}, body))

    def pack(self, rows: Sequence[Message]) -> Message:
        (message,) = rows
        return message

    def unpack(self, answer: Message) -> Sequence[Message]:
        return (answer,)
