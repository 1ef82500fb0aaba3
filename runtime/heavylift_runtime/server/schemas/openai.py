"""What OpenAI's chat and completions have in common: parameters, envelopes, streams, errors. Not their messages.

https://platform.openai.com/docs/api-reference/chat and /completions. Beside OpenAI's own parameters, those of vLLM's
server that Sampling has. docs/serving.md has every parameter, its range and default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from heavylift_runtime.engines.engine import Piece, Request, Sampling, Token
from heavylift_runtime.server.refused import Refused
from heavylift_runtime.server.schemas import forms
from heavylift_runtime.server.schemas.choices import MAX_ROWS, MOST_CHOICES, Choices
from heavylift_runtime.server.schemas.document import dump, kind
from heavylift_runtime.server.schemas.exchange import JSON, SSE, Answer, Defaults, Finished
from heavylift_runtime.server.schemas.fields import Fields
from heavylift_runtime.server.schemas.frames import DONE, server_sent
from heavylift_runtime.server.schemas.parameters import LONGEST_STOP, MOST_STOPS
from heavylift_runtime.server.schemas.telling import usage

_REASONS = {"eos_token": "stop", "stop_sequence": "stop", "length": "length"}
_LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True)
class Asked:
    """What both APIs' requests say beside the prompt."""

    sampling: Sampling
    choices: Choices
    stream: bool
    include_usage: bool
    adapter: str | None

    def expand(self, prompts: Sequence[str | tuple[int, ...]]) -> tuple[Request, ...]:
        """The engine's requests."""
        return self.choices.expand(prompts, self.sampling, () if self.adapter is None else (self.adapter,))


@dataclass(frozen=True)
class Envelope:
    """What every object of one reply carries."""

    identity: str
    created: int
    model: str

    @classmethod
    def of(cls, prefix: str, defaults: Defaults) -> Envelope:
        """A new one; `created` in whole Unix seconds."""
        return cls(f"{prefix}-{defaults.identity()}", int(defaults.clock()), defaults.model)

    def around(self, kind: str, choices: Sequence[object], **more: object) -> dict[str, object]:
        """The object."""
        head = {"id": self.identity, "object": kind, "created": self.created, "model": self.model}
        return {**head, "choices": choices, **more}


@dataclass
class OpenAiExchange:
    """One request; the two APIs say what a choice and a part of one look like."""

    requests: Sequence[Request]
    asked: Asked
    envelope: Envelope
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)

    kind = ""
    part_kind = ""

    @property
    def stream(self) -> bool:
        return self.asked.stream

    @property
    def media_type(self) -> str:
        return SSE if self.stream else JSON

    def reply(self, finished: Sequence[Finished]) -> bytes:
        groups, n = self.asked.choices.of(finished), self.asked.choices.n
        rows = [
            self.choice(place * n + index, group[index]) for place, group in enumerate(groups) for index in range(n)
        ]
        return dump(self.envelope.around(self.kind, rows, usage=usage(groups)))

    def event(self, index: int, piece: Piece) -> bytes:
        first = index not in self.counts
        self.counts[index] = (piece.prompt_tokens, piece.generated_tokens)
        rows = self.parts(index, piece, first)
        return b"".join(self._chunk([{"index": index, **row}]) for row in rows)

    def end(self) -> bytes:
        if not self.asked.include_usage:
            return DONE
        prompt = sum(self.counts[index][0] for index in self.counts if index % self.asked.choices.best_of == 0)
        completion = sum(generated for _, generated in self.counts.values())
        counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        return server_sent(self.envelope.around(self.part_kind, [], usage=counts)) + DONE

    def failure(self, code: int, sentence: str) -> Answer:
        return failure(code, sentence)

    def broken(self, code: int, sentence: str) -> bytes:
        return server_sent(error(code, sentence))

    def choice(self, index: int, answer: Finished) -> dict[str, Any]:
        """A whole choice."""
        raise NotImplementedError

    def parts(self, index: int, piece: Piece, first: bool) -> list[dict[str, Any]]:
        """What a piece adds to its choice, each a chunk of its own; may be empty."""
        raise NotImplementedError

    def _chunk(self, choices: Sequence[object]) -> bytes:
        more = {"usage": None} if self.asked.include_usage else {}
        return server_sent(self.envelope.around(self.part_kind, choices, **more))


def read_asked(fields: Fields, defaults: Defaults, most: int, logprobs: int | None) -> Asked:
    """All but the prompt, the tokens' limit and `logprobs`, which differ; faults are added to `fields.faults`."""
    n = fields.whole("n", low=1, high=MOST_CHOICES, default=1)
    best_of = fields.whole("best_of", low=1, high=MOST_CHOICES, default=n)
    if best_of < n:
        fields.faults.append(f"'best_of' must be at least 'n': got {best_of} and {n}")
    stream = fields.flag("stream", default=False)
    if stream and best_of > n:
        fields.faults.append("'best_of' above 'n' cannot be streamed: the best is known at the end")
    usual = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "min_new_tokens": 0}
    usual |= {name: value for name, value in vars(defaults.manner()).items() if value is not None}
    least, ceiling = int(usual["min_new_tokens"]), defaults.most_new_tokens
    temperature = fields.number("temperature", low=0, high=2, default=usual["temperature"])
    top_p = fields.number("top_p", low=0, high=1, default=usual["top_p"])
    seed = fields.whole("seed", low=-(2**63), high=_LARGEST_SEED)
    sampling = Sampling(
        max_new_tokens=most,
        min_new_tokens=fields.whole("min_tokens", low=0, high=ceiling, default=least),
        temperature=temperature if top_p > 0 else 0.0,
        top_k=max(0, fields.whole("top_k", low=-1, high=1_000_000, default=int(usual["top_k"]))),
        top_p=top_p if top_p > 0 else 1.0,
        min_p=fields.number("min_p", low=0, high=1, default=usual["min_p"]),
        repetition_penalty=fields.number(
            "repetition_penalty", low=0, high=100, above=True, default=usual["repetition_penalty"]
        ),
        frequency_penalty=fields.number("frequency_penalty", low=-2, high=2, default=0.0),
        presence_penalty=fields.number("presence_penalty", low=-2, high=2, default=0.0),
        seed=None if seed is None else seed & _LARGEST_SEED,
        stop=fields.texts("stop", most=MOST_STOPS, length=LONGEST_STOP),
        ignore_eos=fields.flag("ignore_eos", default=False),
        logprobs=logprobs,
        form=forms.of_openai(fields, defaults.structured),
    )
    fields.only("logit_bias", allowed=({},), why="no token is favoured")
    fields.ignore("user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key")
    model = fields.text("model")
    usage = _include_usage(fields, stream)
    return Asked(sampling, Choices(n, max(n, best_of)), stream, usage, model if model in defaults.adapters else None)


def refuse(faults: Sequence[str], rows: int = 1) -> None:
    """Raise Refused (400) where there is a fault, or too much to generate."""
    many = [f"the request asks for {rows} answers: at most {MAX_ROWS} in one request"] if rows > MAX_ROWS else []
    if faults or many:
        raise Refused(400, "; ".join([*faults, *many]))


def reason(finish_reason: str | None) -> str | None:
    """OpenAI's word for why an answer ended."""
    return None if finish_reason is None else _REASONS.get(finish_reason, finish_reason)


def shown_tokens(tokens: Sequence[Token], finish_reason: str | None) -> Sequence[Token]:
    """Those whose log-probabilities are told: not the end-of-sequence token, which is no part of the text."""
    ended = finish_reason == "eos_token" and tokens and not tokens[-1].text
    return tokens[:-1] if ended else tokens


def error(code: int, sentence: str) -> dict[str, Any]:
    """The error object."""
    kind = "server_error" if code >= 500 or code == 424 else "invalid_request_error"
    kind = {404: "not_found_error", 429: "rate_limit_error"}.get(code, kind)
    return {"error": {"message": sentence, "type": kind, "param": None, "code": code}}


def failure(code: int, sentence: str) -> Answer:
    """The reply instead of a 200."""
    return Answer(code, JSON, dump(error(code, sentence)))


def models(defaults: Defaults) -> bytes:
    """GET /v1/models: the model, and its adapters."""
    names = [defaults.model, *sorted(defaults.adapters)]
    rows = [
        {"id": name, "object": "model", "created": int(defaults.clock()), "owned_by": "heavylift"} for name in names
    ]
    return dump({"object": "list", "data": rows})


def _include_usage(fields: Fields, stream: bool) -> bool:
    options = fields.value("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        fields.faults.append(f"'stream_options' must be an object: got {kind(options)}")
        return False
    if not stream:
        fields.faults.append("'stream_options' is for streams: set 'stream' to true, or leave it out")
    given = Fields(options, "member of stream_options", fields.faults)
    given.ignore("include_obfuscation")
    include = given.flag("include_usage", default=False)
    given.rest()
    return include
