"""Which schema a request is written in, by its path and body, and its reading; errors in the shape of that schema.

Not a schema itself. /invocations is SageMaker's one door for all of them: `messages` is OpenAI's chat, `prompt` is
OpenAI's completions, all else LMI's or, with option.tgi_compat, TGI's.
"""

from __future__ import annotations

from collections.abc import Mapping

from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.schemas import lmi
from heavylift_runtime.server.schemas.exchange import Answer, Defaults, Exchange, Misread
from heavylift_runtime.server.schemas.lmi_shapes import SHAPES

INVOCATIONS = "/invocations"


def read(path: str, headers: Mapping[str, str], body: bytes, defaults: Defaults) -> Exchange:
    """The exchange of a POST to one of PATHS; Misread (4xx) with every fault, in the schema's own shape.

    `headers` have names in lower case. Never another exception, whatever the bytes.
    """
    try:
        return lmi.read(headers, _document(headers, body, defaults), defaults)
    except Refused as refused:
        answer = failure(path, refused.code, refused.sentence, defaults)
        raise Misread(refused.code, refused.sentence, answer) from refused


def failure(path: str, code: int, sentence: str, defaults: Defaults) -> Answer:
    """The error of a request that was not read: too large, too slow, the queue is full, the model is loading."""
    return SHAPES[defaults.lmi_compat].failure(code, sentence)


def _document(headers: Mapping[str, str], body: bytes, defaults: Defaults) -> dict[str, object]:
    given = headers.get("content-type", "application/json")
    plain = given.partition(";")[0].strip().lower()
    if plain == "text/plain" and defaults.lmi_compat != "none":
        return lmi.read_text(body)
    if plain != "application/json":
        raise Refused(415, f"Content-Type must be application/json: got {given[:80]!r}")
    return lmi.parse(body)
