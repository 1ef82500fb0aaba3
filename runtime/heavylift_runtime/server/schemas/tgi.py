"""Text Generation Inference's schema: /generate, /generate_stream, and both at / and, if so told, at /invocations.

https://huggingface.co/docs/text-generation-inference/reference/api_reference. Not LMI's, which is much alike: TGI
counts events, calls a log-probability `logprob`, marks special tokens, and draws tokens where any parameter of chance
is given.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from heavylift_runtime.engines.engine import Piece, Request, Token
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.schemas.document import dump, is_unicode, kind
from heavylift_runtime.server.schemas.exchange import JSON, SSE, Answer, Defaults, Finished
from heavylift_runtime.server.schemas.fields import Fields
from heavylift_runtime.server.schemas.frames import server_sent
from heavylift_runtime.server.schemas.parameters import Wish, read_parameters
from heavylift_runtime.server.schemas.telling import TGI, ends_it, likeliest, told, written

WHOLE, STREAM = "/generate", "/generate_stream"
_STATUS = {400: 422}  # TGI's for a request that is wrong
_TYPES = {424: "generation", 429: "overloaded", 500: "incomplete_generation", 503: "unhealthy", 507: "generation"}


@dataclass
class TgiExchange:
    """One request in TGI's schema; `listed` wraps the reply into a list, as TGI does at / and on SageMaker."""

    requests: Sequence[Request]
    stream: bool
    prompt: str
    wish: Wish
    listed: bool
    said: list[str] = field(default_factory=list)
    count: int = 0

    @property
    def media_type(self) -> str:
        return SSE if self.stream else JSON

    def reply(self, finished: Sequence[Finished]) -> bytes:
        (group,) = self.wish.choices.of(finished)
        best, *others = group
        seeds = {id(each): request.sampling.seed for request, each in zip(self.requests, finished, strict=True)}
        document: dict[str, Any] = {"generated_text": self._text(best.text)}
        if self.wish.details:
            document["details"] = self._details(best, seeds[id(best)])
            if others:
                rows = [
                    {"generated_text": self._text(each.text)} | self._details(each, seeds[id(each)]) for each in others
                ]
                document["details"]["best_of_sequences"] = rows
        return dump([document] if self.listed else document)

    def event(self, index: int, piece: Piece) -> bytes:
        return b"".join(self._event(token, last, piece) for token, last in told(piece))

    def end(self) -> bytes:
        return b""

    def failure(self, code: int, sentence: str) -> Answer:
        return failure(code, sentence)

    def broken(self, code: int, sentence: str) -> bytes:
        return server_sent(_error(code, sentence))

    def _event(self, token: Token, last: bool, piece: Piece) -> bytes:
        self.said.append(token.text)
        self.count += 1
        event: dict[str, Any] = {"index": self.count, "token": _token(token, last, piece.finish_reason)}
        if self.wish.top:
            event["top_tokens"] = self._top(token)
        ending = None
        if last and self.wish.details:
            seed = self.requests[0].sampling.seed
            ending = _counts(piece.finish_reason, piece.generated_tokens, piece.prompt_tokens, seed)
        return server_sent(
            {**event, "generated_text": self._text("".join(self.said)) if last else None, "details": ending}
        )

    def _text(self, answer: str) -> str:
        return self.prompt + answer if self.wish.full_text else answer

    def _details(self, answer: Finished, seed: int | None) -> dict[str, Any]:
        found = _counts(answer.finish_reason, answer.generated_tokens, answer.prompt_tokens, seed)
        number = len(answer.tokens)
        tokens = [_token(token, place == number, answer.finish_reason) for place, token in enumerate(answer.tokens, 1)]
        found |= {"prefill": [], "tokens": tokens}
        return found | ({"top_tokens": [self._top(token) for token in answer.tokens]} if self.wish.top else {})

    def _top(self, token: Token) -> list[dict[str, Any]]:
        return [{**each, "special": False} for each in likeliest(token, TGI, self.wish.top)]


def read(path: str, document: Mapping[str, Any], defaults: Defaults) -> TgiExchange:
    """The exchange; Refused (400) with every fault in one sentence."""
    faults: list[str] = []
    fields = Fields(document, "member", faults)
    inputs = fields.value("inputs")
    asked = fields.flag("stream", default=path == STREAM)
    parameters = fields.value("parameters")
    fields.rest()
    if not isinstance(inputs, str) or not inputs or not is_unicode(inputs):
        what = "an empty text" if inputs == "" else kind(inputs)
        faults.append(f"'inputs' must be a text: got {what}")
        inputs = ""
    if not isinstance(parameters, dict | None):
        faults.append(f"'parameters' must be an object: got {kind(parameters)}")
        parameters = None
    stream = asked or path == STREAM
    wish = read_parameters(Fields(parameters or {}, "parameter", faults), defaults, "tgi", stream)
    if stream and wish.choices.best_of > 1:
        faults.append("'best_of' above 1 cannot be streamed: the best is known at the end")
    if len(wish.adapters) > 1:
        faults.append(f"'adapter_id' must be one text: got {len(wish.adapters)}")
    if faults:
        raise Refused(400, "; ".join(faults))
    sampling = wish.sampling
    if wish.details and sampling.temperature > 0 and sampling.seed is None:  # TGI tells the seed that it has drawn
        wish = replace(wish, sampling=replace(sampling, seed=secrets.randbits(63)))
    requests = wish.choices.expand([defaults.prompts.fill(inputs)], wish.sampling, wish.adapters)
    return TgiExchange(requests, stream, inputs, wish, path not in (WHOLE, STREAM))


def failure(code: int, sentence: str) -> Answer:
    """The reply instead of a 200."""
    return Answer(_STATUS.get(code, code), JSON, dump(_error(code, sentence)))


def _counts(finish_reason: str | None, generated: int, prompt: int, seed: int | None) -> dict[str, Any]:
    return {"finish_reason": finish_reason, "generated_tokens": generated, "seed": seed, "input_length": prompt}


def _error(code: int, sentence: str) -> dict[str, str]:
    return {"error": sentence, "error_type": _TYPES.get(code, "validation" if code < 500 else "generation")}


def _token(token: Token, last: bool, finish_reason: str | None) -> dict[str, Any]:
    return {**written(token, TGI), "special": ends_it(token, last, finish_reason)}
