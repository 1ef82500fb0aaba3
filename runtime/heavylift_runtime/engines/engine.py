"""What an engine is: the seam between the worker process and a model.

Not an implementation, and no torch: native.py has one; script.py answers raw HTTP requests instead (see worker.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Request:
    """One row of a batch: a prompt and the most tokens to generate for it (including the end-of-sequence token)."""

    prompt: str
    max_new_tokens: int


@dataclass(frozen=True)
class Reply:
    """The row's answer; both token counts include the end-of-sequence token."""

    text: str
    finish_reason: str  # "eos_token" | "length"
    prompt_tokens: int
    generated_tokens: int


class Engine(Protocol):
    """One model over `world` rank processes; each rank holds one of these."""

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer one batch, a reply for each request in order; called on rank 0 only."""

    def follow(self) -> None:
        """Run what rank 0 broadcasts until it closes; called on ranks > 0 only."""

    def close(self) -> None:
        """Let every follower return; called on rank 0 only."""
