"""While a request is under way: its client may go away, its time may run out. Not what it is waiting for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from heavylift_runtime.server.refused import Refused

GONE = Refused(499, "the client went away")
UNSOUND = Refused(400, "the request is not sound HTTP")
_EXTENSION = "heavylift.departure"


class Departure:
    """Of the client of one request; the connection tells it (patience.py). `reads`: the client takes what it is sent,
    so that nothing would wait to be written."""

    def __init__(self, reads: Callable[[], bool] = lambda: False) -> None:
        self.reads = reads
        self.why: Refused | None = None
        """Why nobody waits any more, from then on."""
        self._end: Callable[[Refused], None] | None = None

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Departure:
        """The scope's; a new one, which nobody tells, under another server's protocol."""
        found = scope.get("extensions", {}).get(_EXTENSION)
        return found if isinstance(found, cls) else cls()

    def extension(self) -> dict[str, Any]:
        """For ASGI's scope."""
        return {_EXTENSION: self}

    def tell(self, why: Refused = GONE) -> None:
        """The client has gone, or was sent away; the first reason is the one that counts."""
        if self.why is None:
            self.why = why
            if self._end is not None:
                self._end(why)

    def watch(self, end: Callable[[Refused], None] | None) -> None:
        """Whom to tell from now on; at once where it has gone already."""
        self._end = end
        if end is not None and self.why is not None:
            end(self.why)


@contextlib.contextmanager
def attending(
    departure: Departure, end: Callable[[Refused], None], seconds: float, late: Callable[[], Refused]
) -> Iterator[None]:
    """Call `end` where the client disconnects, or `seconds` pass; with 499, or what `late` says."""
    timer = asyncio.get_running_loop().call_later(seconds, lambda: end(late()))
    departure.watch(end)
    try:
        yield
    finally:
        timer.cancel()
        departure.watch(None)
