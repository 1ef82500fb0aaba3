"""An engine's answers for tests of schemas: pieces of one answer, as an engine steps. Not an engine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from heavylift_runtime.engines.engine import Piece, Token
from heavylift_runtime.server.schemas import Exchange, Finished

TEXTS = ("Grün", " ", "", "木\u2028", "🙂", '"}\n\ndata:')
"""What is hard to frame: characters of two to four bytes, a line end that JSON lets pass, what looks like a frame."""


def pieces(texts: Sequence[str] = TEXTS, *, reason: str = "eos_token", prompt: int = 5) -> list[Piece]:
    """A step for each text, and one for the end-of-sequence token where that is the reason."""
    found = []
    ends = (*texts, "") if reason == "eos_token" else tuple(texts)
    for number, text in enumerate(ends, 1):
        top = ((number, text, -0.5), (99, "else", -math.inf))
        finish = reason if number == len(ends) else None
        found.append(Piece(0, (Token(number, text, -0.5, top),), finish, prompt, number))
    return found


def finished(texts: Sequence[str] = TEXTS, *, reason: str = "eos_token") -> Finished:
    """The same answer, whole."""
    return Finished.of(pieces(texts, reason=reason))


def streamed(exchange: Exchange, found: Sequence[Piece] | None = None) -> bytes:
    """All bytes of a stream of one answer."""
    events = [exchange.event(0, piece) for piece in (pieces() if found is None else found)]
    return b"".join(events) + exchange.end()
