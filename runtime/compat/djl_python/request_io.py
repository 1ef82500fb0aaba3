"""A generated reply as the formatters of a script see it: tokens, sequences, the request they answer. Not an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Token:
    """One generated token."""

    id: int
    text: str
    log_prob: float | None = None
    special_token: bool | None = None
    error_msg: str | None = None
    request_id: int | None = field(default=None, init=False)

    def as_dict(self) -> dict[str, Any]:
        """By LMI's names."""
        extra = {"special_token": self.special_token, "error_msg": self.error_msg}
        return {"id": self.id, "text": self.text, "log_prob": self.log_prob} | {k: v for k, v in extra.items() if v}

    def as_tgi_dict(self) -> dict[str, Any]:
        """By TGI's names."""
        special = {"special": True} if self.special_token else {}
        return {"id": self.id, "text": self.text, "logprob": self.log_prob} | special


@dataclass
class Sequence:
    """The tokens of one answer; `get_next_token` hands each one out once."""

    tokens: list[Token] = field(default_factory=list)
    top_tokens: list[list[Token]] = field(default_factory=list)
    cumulative_log_prob: float = 0.0
    finish_reason: str | None = None
    _last_token_index: int | None = field(default=None, repr=False)
    stop_reason: str | None = None
    _next: int = field(default=0, init=False, repr=False)
    _next_top: int = field(default=0, init=False, repr=False)

    def set_next_token(self, token: Token, is_last_token: bool = False) -> None:
        """Append a token."""
        self.tokens.append(token)
        if is_last_token:
            self._last_token_index = len(self.tokens) - 1

    def set_next_top_tokens(self, top_tokens: list[Token]) -> None:
        """Append the likeliest tokens of a place."""
        self.top_tokens.append(top_tokens)

    def has_next_token(self) -> bool:
        """There is one that was not handed out."""
        return self._next < len(self.tokens)

    def get_next_token(self) -> tuple[Token | None, bool, bool]:
        """The next token, and whether it is the first and the last one; None where there is none yet."""
        if not self.has_next_token():
            return None, False, False
        index, self._next = self._next, self._next + 1
        return self.tokens[index], index == 0, index == self._last_token_index

    def has_next_top_tokens(self) -> bool:
        """There are some that were not handed out."""
        return self._next_top < len(self.top_tokens)

    def get_next_top_tokens(self) -> list[Token] | None:
        """The likeliest tokens of the next place; None where there are none yet."""
        if not self.has_next_top_tokens():
            return None
        self._next_top += 1
        return self.top_tokens[self._next_top - 1]


@dataclass
class RequestInput:
    """What a request asks."""

    request_id: int = 0
    output_formatter: Any = None
    parameters: dict[str, Any] = field(default_factory=dict)
    server_parameters: dict[str, Any] = field(default_factory=dict)
    tgi_compat: bool = False


@dataclass
class TextInput(RequestInput):
    """A request for text."""

    input_text: Any = None
    input_ids: list[int] = field(default_factory=list)
    adapters: Any = None
    tokenizer: Any = None
    found_adapters: bool = False

    def prompt_tokens_length(self) -> int:
        """Tokens of the prompt."""
        return len(self.input_ids)


@dataclass
class RequestOutput:
    """What a request has got so far."""

    request_id: int = 0
    input: RequestInput = field(default_factory=RequestInput)
    finished: bool = False


@dataclass
class TextGenerationOutput(RequestOutput):
    """The sequences of a request for text; the best one is sent."""

    sequences: dict[int, Sequence] = field(default_factory=dict)
    best_sequence_index: int = 0
    prompt_tokens_details: list[Token] = field(default_factory=list)
    other_sequences_indices: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sequences.setdefault(self.best_sequence_index, Sequence())

    def set_next_token(
        self, token: Token, sequence_index: int = 0, is_last_token: bool = False, finish_reason: str | None = None
    ) -> None:
        """Append a token to a sequence."""
        sequence = self.sequences.setdefault(sequence_index, Sequence())
        sequence.set_next_token(token, is_last_token)
        sequence.finish_reason = sequence.finish_reason if finish_reason is None else finish_reason

    def set_next_top_tokens(self, top_tokens: list[Token], sequence_index: int) -> None:
        """Append the likeliest tokens of a place to a sequence."""
        self.sequences[sequence_index].set_next_top_tokens(top_tokens)

    def set_best_sequence_index(self, sequence_index: int) -> None:
        """The sequence that is sent."""
        self.best_sequence_index = sequence_index

    def set_finish_reason(self, finish_reason: str, sequence_index: int = 0) -> None:
        """Why a sequence ended."""
        self.sequences[sequence_index].finish_reason = finish_reason

    def get_tokens_as_dict(self, sequence_index: int = 0) -> list[dict[str, Any]]:
        """The tokens of a sequence, by the names that the request wants."""
        return self._named(self.sequences[sequence_index].tokens)

    def get_prompt_tokens_as_dict(self) -> list[dict[str, Any]]:
        """The tokens of the prompt."""
        return self._named(self.prompt_tokens_details)

    def get_top_tokens_as_dict(self, sequence_index: int = 0) -> list[list[dict[str, Any]]]:
        """The likeliest tokens of each place of a sequence."""
        return [self._named(place) for place in self.sequences[sequence_index].top_tokens]

    def _named(self, tokens: list[Token]) -> list[dict[str, Any]]:
        return [token.as_tgi_dict() if self.input.tgi_compat else token.as_dict() for token in tokens]
