"""What an engine is: the seam between the worker process and a model, as values that cross a socket as JSON.

Not an implementation, and no torch: native.py has one; script.py answers raw HTTP requests instead (see worker.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, NamedTuple, Protocol


@dataclass(frozen=True)
class Form:
    """What a whole answer must be, whatever the model would rather say."""

    kind: Literal["json_schema", "json_object", "regex", "grammar", "choice"]
    rule: str = ""
    """A JSON schema, nothing, a regular expression, a grammar in EBNF, a JSON list of texts."""


@dataclass(frozen=True)
class Sampling:
    """How one request's tokens are chosen; ranges are the schemas' to check, what it cannot do is the engine's to say.

    Names and meanings are Hugging Face's (transformers' GenerationConfig); the two OpenAI penalties are OpenAI's.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    temperature: float = 0.0
    """0: the likeliest token, always."""
    top_k: int = 0
    """0: off"""
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    """None: none; 0: the chosen token's; k: and those of the k likeliest."""
    num_beams: int = 1
    beam: int = 0
    """Of a beam search, which of its answers: 0 is the best one."""
    length_penalty: float = 1.0
    form: Form | None = None
    """None: free. Only engines with `structured` (registry.py) are asked for one."""

    def to_json(self) -> dict[str, Any]:
        """As JSON, for another process: what is not as usual."""
        told = {name: value for name, value in vars(self).items() if name not in _USUAL or value != _USUAL[name]}
        return told if self.form is None else told | {"form": asdict(self.form)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Sampling:
        """The inverse of to_json."""
        form = document.get("form")
        read = {"stop": tuple(document.get("stop", ())), "form": None if form is None else Form(**form)}
        return cls(**{**document, **read})


_USUAL = {each.name: each.default for each in fields(Sampling) if each.default is not MISSING}


@dataclass(frozen=True)
class Request:
    """One prompt, as text or as tokens, and how to continue or answer it."""

    prompt: str | tuple[int, ...]
    sampling: Sampling
    adapter: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON, for another process."""
        prompt = self.prompt if isinstance(self.prompt, str) else list(self.prompt)
        return {"prompt": prompt, "sampling": self.sampling.to_json(), "adapter": self.adapter}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Request:
        """The inverse of to_json."""
        prompt = document["prompt"]
        text = prompt if isinstance(prompt, str) else tuple(prompt)
        return cls(text, Sampling.from_json(document["sampling"]), document.get("adapter"))


class Token(NamedTuple):
    """One generated token. The texts of all tokens, joined, are the reply.

    A text is "" while a character's bytes, or what may become a stop sequence, are incomplete. (A tuple, like Piece: a
    server makes thousands of them a second, and a frozen dataclass takes twice as long.)
    """

    id: int
    text: str
    logprob: float | None = None
    top: tuple[tuple[int, str, float], ...] = ()
    """The likeliest tokens: id, text, log-probability."""


class Piece(NamedTuple):
    """What one step brought for the request of this key."""

    key: int
    tokens: tuple[Token, ...]
    finish_reason: str | None
    """ "eos_token" | "length" | "stop_sequence" | "abort"; None: more will come."""
    prompt_tokens: int
    generated_tokens: int
    """So far, the end-of-sequence token among them."""
    error: tuple[int, str] | None = None
    """The request ended with this code and sentence, such as 507 where memory ran out."""

    @property
    def last(self) -> bool:
        """Nothing more will come for this key."""
        return self.finish_reason is not None or self.error is not None


def text_fault(prompt: str) -> str | None:
    """Why a prompt is no text, or None."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return "the prompt holds half of a UTF-16 pair, which is no character; send the text as UTF-8"
    return None


class Engine(Protocol):
    """One model over `world` rank processes; each rank holds one of these. All but `follow` is called on rank 0."""

    def add(self, key: int, request: Request) -> None:
        """Queue a request; PromptError, before anything is computed, where it cannot be served."""

    def cancel(self, key: int) -> None:
        """Forget a request; unknown keys are ignored."""

    def step(self) -> list[Piece]:
        """One step of all requests that run; empty when there are none."""

    @property
    def busy(self) -> bool:
        """Something waits or runs."""

    @property
    def capacity(self) -> int:
        """Requests that may run at once."""

    def follow(self) -> None:
        """Run what rank 0 broadcasts until it closes; called on ranks > 0 only."""

    def close(self) -> None:
        """Let every follower return."""
