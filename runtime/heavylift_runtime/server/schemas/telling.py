"""A piece of an answer as the tokens to tell, and a token as LMI and TGI write it. Not the events around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from heavylift_runtime.engines.engine import Piece, Token
from heavylift_runtime.server.schemas.exchange import Finished

NO_TOKEN = -1  # its id where an answer ends and the last step brought no token
LOWEST = -9999.0  # JSON has no infinity
LMI, TGI = "log_prob", "logprob"


def told(piece: Piece) -> Iterator[tuple[Token, bool]]:
    """Each token of a piece, and whether it is the answer's last; an answer never ends without one."""
    ends = piece.finish_reason is not None
    tokens = piece.tokens or ((Token(NO_TOKEN, ""),) if ends else ())
    for number, token in enumerate(tokens, 1):
        yield token, ends and number == len(tokens)


def written(token: Token, key: str) -> dict[str, Any]:
    """id, text, and the log-probability under its schema's key."""
    return {"id": token.id, "text": token.text, key: finite(token.logprob)}


def likeliest(token: Token, key: str, most: int) -> list[dict[str, Any]]:
    """The likeliest tokens in one's place."""
    return [{"id": number, "text": text, key: value} for number, text, value in top_of(token, most)]


def top_of(token: Token, most: int) -> list[tuple[int, str, float | None]]:
    """The likeliest: id, text, log-probability. The token itself, where it is among them, has its own text: an engine
    tells the others' alone, without the blank that some would begin with after this very text."""
    return [
        (number, token.text if number == token.id else text, finite(value)) for number, text, value in token.top[:most]
    ]


def ends_it(token: Token, last: bool, finish_reason: str | None) -> bool:
    """The token is the end-of-sequence token, which has no text."""
    return last and finish_reason == "eos_token" and not token.text


def finite(logprob: float | None) -> float | None:
    """A number that JSON can hold."""
    return None if logprob is None else max(logprob, LOWEST)


def usage(groups: Sequence[Sequence[Finished]]) -> dict[str, int]:
    """Tokens of each prompt once, and of every try at it."""
    prompt = sum(group[0].prompt_tokens for group in groups)
    completion = sum(each.generated_tokens for group in groups for each in group)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
