"""Prompts as tokens and tokens as text, by a tokenizer of transformers. Not the native engine's (native/text.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heavylift_runtime.engines.engine import text_fault
from heavylift_runtime.errors import PromptError


class Words:
    """A model's tokenizer, how many tokens the model knows, and what it wants before each text."""

    def __init__(self, tokenizer: Any, vocabulary: int, prefix: str = "") -> None:
        self._tokenizer, self._vocabulary, self._prefix = tokenizer, vocabulary, prefix

    def tokens(self, prompt: str | tuple[int, ...]) -> list[int]:
        """At least one, all of them known; PromptError for any other prompt."""
        found = self._read(prompt)
        if not found:
            raise PromptError("the prompt has no tokens; send at least one character")
        if max(found) >= self._vocabulary or min(found) < 0:
            raise PromptError(f"the prompt has token {max(found)}, the model knows {self._vocabulary}")
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """Without the special ones."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def spell(self, token: int) -> str:
        """One token, special or not."""
        text: str = self._tokenizer.decode([token])
        return text

    def _read(self, prompt: str | tuple[int, ...]) -> list[int]:
        if not isinstance(prompt, str):
            return list(prompt)
        if (fault := text_fault(prompt)) is not None:
            raise PromptError(fault)
        tokens: list[int] = self._tokenizer(self._prefix + prompt)["input_ids"]
        return tokens
