"""A sequence's tokens as text, token by token: never half of a character, nothing of a stop sequence.

Not the tokenizer (text.py). The pieces, joined, are what the tokenizer makes of all the tokens after those before
them, but for bytes that are no character: how many signs stand for them depends on which came together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

BEFORE = 6
"""Tokens of the prompt that a completion is decoded with: its first word may begin with a space, or not."""
BROKEN = "\ufffd"
"""What decoders write for bytes that are no character, or not yet."""


class Stream:
    """One sequence's text."""

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int], stop: Sequence[str] = ()) -> None:
        """`before`: the tokens that it continues; none of an encoder-decoder's answer."""
        self._decode, self._stop = decode, tuple(each for each in stop if each)
        # not from the middle of a character, which has up to four tokens
        sizes = range(BEFORE, BEFORE + 4)
        begun = next((size for size in sizes if not decode(before[-size:]).startswith(BROKEN)), BEFORE)
        self._tokens = list(before[-begun:])
        self._told = len(self._tokens)  # of `_tokens`, those whose text is known; the last ones of them are `_head`
        self._from, self._head = 0, decode(self._tokens)
        self._held = ""
        self.stopped = False
        """A stop sequence has come; what is before it was given out, what is after it never will be."""

    def add(self, token: int, *, last: bool = False) -> str:
        """The text that is certain now; all of the rest with the `last` token."""
        self._tokens.append(token)
        return self._more(last)

    def end(self) -> str:
        """The rest, where the last token was only a mark of the end."""
        return self._more(True)

    def _more(self, last: bool) -> str:
        text = self._decode(self._tokens[self._from :])
        if last or not text.endswith(BROKEN):
            fresh = self._tokens[self._told :]
            own = self._decode(fresh)
            self._held += text[len(self._head) :] if text.startswith(self._head) else own
            # a word's blank is in its text only after another text: tokens without any are no place to begin at
            if own:
                self._from = self._told
            self._told, self._head = len(self._tokens), own or text
        return self._release(last) if self._stop else self._all()

    def _all(self) -> str:
        held, self._held = self._held, ""
        return held

    def _release(self, last: bool) -> str:
        """What is held up to a stop sequence, or to what may become one."""
        places = [place for each in self._stop if (place := self._held.find(each)) >= 0]
        if places:
            self.stopped = True
            certain, self._held = self._held[: min(places)], ""
            return certain
        if last:
            return self._all()
        keep = max(_beginning(self._held, each) for each in self._stop)
        cut = len(self._held) - keep
        certain, self._held = self._held[:cut], self._held[cut:]
        return certain


def _beginning(text: str, stop: str) -> int:
    """Characters at the text's end that a stop sequence begins with; not all of it."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
