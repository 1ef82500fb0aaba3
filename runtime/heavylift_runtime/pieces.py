"""What a step brings, as short JSON for the channel: a list where the value has names. Not the channel: wire.py.

A piece is [key, tokens, finish_reason, prompt_tokens, generated_tokens, error]; a token [id, text], or with its
log-probability [id, text, logprob, top].
Hundreds of them cross each second, and names would be most of their bytes.
"""

from __future__ import annotations

from typing import Any

from heavylift_runtime.engines.engine import Piece, Token


def pack(piece: Piece) -> list[Any]:
    """For JSON."""
    tokens = [
        [token.id, token.text] if token.logprob is None else [token.id, token.text, token.logprob, token.top]
        for token in piece.tokens
    ]
    return [piece.key, tokens, piece.finish_reason, piece.prompt_tokens, piece.generated_tokens, piece.error]


def unpack(packed: list[Any]) -> Piece:
    """The inverse of pack; raises ValueError or TypeError for anything else."""
    key, tokens, finish, prompt, generated, error = packed
    return Piece(
        key,
        tuple([Token(*each) if len(each) == 2 else _likely(*each) for each in tokens]),
        finish,
        prompt,
        generated,
        None if error is None else (error[0], error[1]),
    )


def _likely(number: int, text: str, logprob: float, top: list[list[Any]]) -> Token:
    return Token(number, text, logprob, tuple([(other, spelt, how) for other, spelt, how in top]))
