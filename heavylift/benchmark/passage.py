"""One request's way as its client sees it: when it went out, when the head of its reply came, what that told.

Not its record (samples.py). A runtime of Heavylift that is asked for its times (`ASK`) tells them in the reply's custom
attributes (heavylift_runtime/server/times.py); what else is there is its users' own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

ASK = "heavylift-times"
NAMES = ("queue", "first", "total")
MOST_US = 86_400_000_000  # a day


@dataclass
class Passage:
    """Times in seconds of `clock`; None until then."""

    clock: Callable[[], float] = time.monotonic
    written_s: float | None = None
    head_s: float | None = None
    attributes: str = ""

    def write(self) -> None:
        """It is built and signed, and handed to the connection now."""
        self.written_s = self.clock()

    def head(self, attributes: str | None) -> None:
        """The reply's head has come, with these custom attributes."""
        self.head_s, self.attributes = self.clock(), attributes or ""

    @property
    def server_us(self) -> dict[str, int] | None:
        """What the server says of itself, in whole microseconds since it had the request: until the engine had it
        (`queue`), until its first token (`first`), until the reply's head (`total`); None where it says nothing."""
        found: dict[str, int] = {}
        for each in self.attributes.split(";"):
            name, _, value = each.strip().partition("=")
            short = name.removeprefix("heavylift-").removesuffix("-us")
            if name == f"heavylift-{short}-us" and short in NAMES and value.isdecimal() and len(value) < 12:
                found[short] = int(value)
        sound = "total" in found and max(found.values()) == found["total"] <= MOST_US
        return found if sound else None
