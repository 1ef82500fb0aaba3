"""How a client's text or conversation becomes the model's prompt. Not the request's schema: that is schemas/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift_runtime.server.refused import Refused


@dataclass(frozen=True)
class Prompts:
    """The templates of one model; without any, a text is the prompt, and so is a conversation of one user's message."""

    def fill(self, text: str) -> str:
        """The prompt for a text."""
        return text

    def chat(self, messages: Sequence[Mapping[str, Any]], generation: bool, variables: Mapping[str, Any]) -> str:
        """The prompt for a conversation; Refused (400) where the model has no template for it."""
        if len(messages) == 1 and messages[0]["role"] == "user":
            return self.fill(messages[0]["content"])
        raise Refused(400, "the model has no chat template: send one message of the role 'user', or give it one")
