"""Which schema a request is written in, by its path and body, and its reading; errors in the shape of that schema.

Not a schema itself. /invocations is SageMaker's one door for all of them: `messages` is OpenAI's chat, `prompt` is
OpenAI's completions, all else LMI's or, with option.tgi_compat, TGI's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.schemas import lmi, openai, openai_chat, openai_completions, tgi
from heavylift_runtime.server.schemas.document import read_document
from heavylift_runtime.server.schemas.exchange import Answer, Defaults, Exchange, Misread
from heavylift_runtime.server.schemas.lmi_shapes import SHAPES

INVOCATIONS = "/invocations"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_OWN = (CHAT, COMPLETIONS, tgi.WHOLE, tgi.STREAM, "/")  # paths that speak one schema
PATHS = (INVOCATIONS, *_OWN)


@dataclass(frozen=True)
class _Schema:
    """How one schema reads a document, and says what went wrong."""

    example: str
    read: Callable[[Mapping[str, str], Mapping[str, Any]], Exchange]
    failure: Callable[[int, str], Answer]


def read(path: str, headers: Mapping[str, str], body: bytes, defaults: Defaults) -> Exchange:
    """The exchange of a POST; Misread (4xx) with every fault, in the schema's own shape.

    `headers` have names in lower case. Never another exception, whatever the bytes.
    """
    schema = _of_path(path, defaults)
    try:
        document = _document(headers, body, schema.example, defaults)
        if path not in _OWN:  # /invocations, and /models/{name}/invoke
            schema = _of_document(document, schema, defaults)
        return schema.read(headers, document)
    except Refused as refused:
        answer = schema.failure(refused.code, refused.sentence)
        raise Misread(answer.status, refused.sentence, answer) from refused


def failure(path: str, code: int, sentence: str, defaults: Defaults) -> Answer:
    """The error of a request that was not read: too large, too slow, the queue is full, the model is loading."""
    return _of_path(path, defaults).failure(code, sentence)


def _of_path(path: str, defaults: Defaults) -> _Schema:
    if path.startswith("/v1/"):
        return _chat(defaults) if path == CHAT else _completions(defaults)
    if path in ("/", tgi.WHOLE, tgi.STREAM) or defaults.tgi_compat:
        return _Schema('{"inputs": "…"}', lambda _, document: tgi.read(path, document, defaults), tgi.failure)
    shape = SHAPES[defaults.lmi_compat]
    return _Schema('{"inputs": "…"}', lambda headers, document: lmi.read(headers, document, defaults), shape.failure)


def _of_document(document: Mapping[str, Any], usual: _Schema, defaults: Defaults) -> _Schema:
    """The schema of a request at /invocations; Refused where it could be two."""
    named = [name for name in ("messages", "prompt", "inputs") if name in document]
    found = [name for name in named if document[name] is not None] or named
    if len(found) > 1:
        raise Refused(400, f"the body has {' and '.join(map(repr, found))}: give 'messages', 'prompt' or 'inputs'")
    return {"messages": _chat, "prompt": _completions}.get("".join(found), lambda _: usual)(defaults)


def _chat(defaults: Defaults) -> _Schema:
    example = '{"messages": [{"role": "user", "content": "…"}]}'
    return _Schema(example, lambda _, document: openai_chat.read(document, defaults), openai.failure)


def _completions(defaults: Defaults) -> _Schema:
    return _Schema('{"prompt": "…"}', lambda _, document: openai_completions.read(document, defaults), openai.failure)


def _document(headers: Mapping[str, str], body: bytes, example: str, defaults: Defaults) -> dict[str, Any]:
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise Refused(415, f"a body is read as it is, without Content-Encoding: got {coding[:80]!r}")
    given = headers.get("content-type", "application/json")
    plain = given.partition(";")[0].strip().lower()
    if plain == "text/plain" and defaults.lmi_compat != "none":
        return lmi.read_text(body)
    if plain != "application/json":
        raise Refused(415, f"Content-Type must be application/json: got {given[:80]!r}")
    return read_document(body, example)
