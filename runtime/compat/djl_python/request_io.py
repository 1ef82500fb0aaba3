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
    stop_reason: str | None = None
    _last: int | None = field(default=None, repr=False)
    _next: int = field(default=0, repr=False)

    def set_next_token(self, token: Token, is_last_token: bool = False) -> None:
        """Append a token."""
        self.tokens.append(token)
        if is_last_token:
            self._last = len(self.tokens) - 1

    def has_next_token(self) -> bool:
        """There is one that was not handed out."""
        return self._next < len(self.tokens)

    def get_next_token(self) -> tuple[Token | None, bool, bool]:
        """The next token, and whether it is the first and the last one; None where there is none yet."""
        if not self.has_next_token():
            return None, False, False
        index, self._next = self._next, self._next + 1
        return self.tokens[index], index == 0, index == self._last


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

    def get_tokens_as_dict(self, sequence_index: int = 0) -> list[dict[str, Any]]:
        """The tokens of a sequence, by the names that the request wants."""
        tokens = self.sequences[sequence_index].tokens
        return [token.as_tgi_dict() if self.input.tgi_compat else token.as_dict() for token in tokens]
