"""Tokens to text, one at a time, for engines over Hugging Face's tokenizers. Not a tokenizer: it is handed `decode`.

A text is held back while it may still change: the first bytes of a character, or the first letters of a stop sequence.
What is handed out, joined, is what decoding all tokens at once gives, cut before the first stop sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

BEFORE = 6
"""Tokens of the prompt that a first token is decoded with, so that it keeps its leading space."""
_INCOMPLETE = "\ufffd"


class Spelling:
    """The text of one answer so far."""

    def __init__(
        self, decode: Callable[[list[int]], str], stop: Sequence[str] = (), before: Sequence[int] = ()
    ) -> None:
        """`before`: the tokens that the answer continues, none of an encoder-decoder's."""
        self._decode, self._stop = decode, [each for each in stop if each]
        self._tokens = list(before[-BEFORE:])
        self._from, self._read = 0, len(self._tokens)
        self._held = ""
        self.stopped = False
        """A stop sequence has come; nothing is handed out any more."""

    def add(self, token: int) -> str:
        """What is certain with one token more."""
        self._tokens.append(token)
        known, text = self._decode(self._tokens[self._from : self._read]), self._decode(self._tokens[self._from :])
        if len(text) <= len(known) or text.endswith(_INCOMPLETE):
            return self._pass("")
        self._from, self._read = self._read, len(self._tokens)
        return self._pass(text[len(known) :])

    def end(self) -> str:
        """What was held back, at the end of the answer."""
        known, text = self._decode(self._tokens[self._from : self._read]), self._decode(self._tokens[self._from :])
        self._from = self._read = len(self._tokens)
        rest = self._pass(text[len(known) :])
        held, self._held = self._held, ""
        return rest + ("" if self.stopped else held)

    def _pass(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [at for each in self._stop if (at := text.find(each)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        kept = max((_overlap(text, each) for each in self._stop), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """How many of the text's last letters are the stop sequence's first."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
