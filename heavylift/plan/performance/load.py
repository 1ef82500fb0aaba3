"""What is asked of an endpoint: the size and number of its requests, and the times that must be kept.

Not how it is read from a model file (heavylift.plan.traffic). Tokens and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from heavylift.plan.performance.speed import Request


@dataclass(frozen=True)
class Load:
    """Requests of `prompts` prompts each, of mean size `request`.

    They come when they please, so many a second, or (None) from `clients` that each send again when answered.
    """

    request: Request
    prompts: int = 1
    requests_per_second: float | None = None
    clients: int = 1

    @property
    def rows(self) -> int:
        """Prompts under way at once, in a closed loop."""
        return self.clients * self.prompts


@dataclass(frozen=True)
class Targets:
    """Seconds, and generated tokens per second of the whole endpoint; None: no such target."""

    first_token: float | None = None
    per_token: float | None = None
    request: float | None = None
    tokens_per_second: float | None = None

    @property
    def any(self) -> bool:
        """There is something to meet."""
        return any(v is not None for v in (self.first_token, self.per_token, self.request, self.tokens_per_second))
