"""LMI's schema: `inputs` and `parameters` in; whole or as a stream out, in one of three shapes. Not chat, not TGI.

Which shape is the model's to say (`option.lmi_compat`): none is Heavylift's own (docs/formats.md), 0.23 and latest are
djl-serving's of these versions. docs/serving.md has every parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.engines.engine import Piece, Request
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.schemas.choices import MAX_ROWS
from heavylift_runtime.server.schemas.document import is_unicode, kind
from heavylift_runtime.server.schemas.exchange import JSON, JSON_LINES, SSE, Answer, Defaults, Finished
from heavylift_runtime.server.schemas.fields import MOST_FAULTS, Fields
from heavylift_runtime.server.schemas.frames import line, server_sent
from heavylift_runtime.server.schemas.lmi_shapes import SHAPES, Asked, Shape
from heavylift_runtime.server.schemas.parameters import read_parameters


@dataclass(frozen=True)
class LmiExchange:
    """One request in LMI's schema."""

    requests: Sequence[Request]
    stream: bool
    media_type: str
    shape: Shape

    def reply(self, finished: Sequence[Finished]) -> bytes:
        return self.shape.whole(finished)

    def event(self, index: int, piece: Piece) -> bytes:
        return b"".join([self._frame(event) for event in self.shape.events(index, piece)])

    def end(self) -> bytes:
        return b""

    def failure(self, code: int, sentence: str) -> Answer:
        return self.shape.failure(code, sentence)

    def broken(self, code: int, sentence: str) -> bytes:
        return self._frame(self.shape.broken(code, sentence))

    def _frame(self, event: object) -> bytes:
        return server_sent(event) if self.media_type == SSE else line(event)


def read_text(body: bytes) -> dict[str, Any]:
    """The document that a text/plain body stands for."""
    try:
        return {"inputs": body.decode()}
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: {error.reason} at byte {error.start}") from error


def read(headers: Mapping[str, str], document: Mapping[str, Any], defaults: Defaults) -> LmiExchange:
    """The exchange; Refused (400, 406) with every fault in one sentence."""
    faults: list[str] = []
    fields = Fields(document, "member", faults)
    inputs = fields.value("inputs")
    stream = fields.flag("stream", default=False)
    parameters = fields.value("parameters")
    fields.whole("batch_size", low=1, high=MAX_ROWS)  # FasterTransformer's users send both; batches form by themselves
    fields.flag("padding")
    adapters = fields.texts("adapters", most=MAX_ROWS, length=256)
    fields.rest()
    prompts = _prompts(inputs, faults)
    if not isinstance(parameters, dict | None):
        faults.append(f"'parameters' must be an object: got {kind(parameters)}")
        parameters = None
    given = Fields({} if parameters is None else parameters, "parameter", faults)
    wish = read_parameters(given, defaults, defaults.lmi_compat, stream)
    adapters = adapters or wish.adapters
    rows = len(prompts) * wish.choices.best_of
    if rows > MAX_ROWS:
        faults.append(f"{len(prompts)} inputs of {wish.choices.best_of} answers each are more than {MAX_ROWS}")
    if len(adapters) not in (0, 1, len(prompts)) and prompts:
        faults.append(f"'adapters' must be one for all or one for each input: got {len(adapters)} for {len(prompts)}")
    asked = Asked(prompts, isinstance(inputs, str), wish)
    shape = SHAPES[defaults.lmi_compat](asked)
    faults += shape.faults(stream)
    if faults:
        raise Refused(400, "; ".join(faults))
    filled = [defaults.prompts.fill(prompt) for prompt in prompts]
    requests = wish.choices.expand(filled, wish.sampling, adapters)
    return LmiExchange(requests, stream, _media_type(headers, stream, defaults), shape)


def _prompts(inputs: Any, faults: list[str]) -> tuple[str, ...]:
    if inputs is None:
        faults.append("'inputs' is missing: give a text or a list of texts")
        return ()
    if not isinstance(inputs, str | list):
        faults.append(f"'inputs' must be a text or a list of texts: got {kind(inputs)}")
        return ()
    rows = [inputs] if isinstance(inputs, str) else inputs
    if not rows:
        faults.append("'inputs' is an empty list: give at least one text")
    if len(rows) > MAX_ROWS:
        faults.append(f"'inputs' has {len(rows)} texts: at most {MAX_ROWS} in one request")
        return ()
    wrong = []
    for index, row in enumerate(rows):
        name = "'inputs'" if isinstance(inputs, str) else f"inputs[{index}]"
        if not isinstance(row, str):
            wrong.append(f"{name} must be a text: got {kind(row)}")
        elif not row:
            wrong.append(f"{name} is empty")
        elif not is_unicode(row):
            wrong.append(f"{name} holds half of a surrogate pair, which is no Unicode text")
    faults += wrong[:MOST_FAULTS]
    return () if wrong else tuple(rows)


def _media_type(headers: Mapping[str, str], stream: bool, defaults: Defaults) -> str:
    """JSON, or for a stream what Accept names, else what the model's options say; Refused (406) where neither fits."""
    accept = headers.get("accept", "").strip().lower() or "*/*"  # an empty one names nothing, and leaves out nothing
    if not stream:
        if not any(each in accept for each in (JSON, "application/*", "*/*")):
            raise Refused(406, f"the reply is application/json, which Accept leaves out: got {accept[:80]!r}")
        return JSON
    if JSON_LINES in accept or SSE in accept:
        return JSON_LINES if JSON_LINES in accept else SSE
    return SSE if defaults.output_formatter == "sse" else JSON_LINES
