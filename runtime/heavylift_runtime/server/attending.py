"""While a request is under way: its client may go away, its time may run out. Not what it is waiting for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from starlette.types import Receive

from heavylift_runtime.server.refused import Refused

GONE = Refused(499, "the client went away")


@contextlib.contextmanager
def attending(
    receive: Receive, end: Callable[[Refused], None], seconds: float, late: Callable[[], Refused]
) -> Iterator[None]:
    """Call `end` where the client disconnects, or `seconds` pass; with 499, or what `late` says."""
    timer = asyncio.get_running_loop().call_later(seconds, lambda: end(late()))
    watcher = asyncio.create_task(_watch(receive, end))
    try:
        yield
    finally:
        timer.cancel()
        watcher.cancel()


async def _watch(receive: Receive, end: Callable[[Refused], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    end(GONE)
