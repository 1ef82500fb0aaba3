"""The log: one JSON object a line, on stderr. Never a payload: prompts and answers are their users' own."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO


class Journal:
    """Writes events."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.time) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock

    def write(self, event: str, ago: float = 0.0, /, **members: Any) -> None:
        """One event, so many seconds ago; members that are None are left out."""
        at = datetime.fromtimestamp(self._clock() - ago, UTC).isoformat(timespec="milliseconds")
        said = {name: value for name, value in members.items() if value is not None}
        with contextlib.suppress(OSError, ValueError):  # nobody reads the log any more: no reason to fail a request
            self._stream.write(json.dumps({"at": at, "event": event} | said) + "\n")
            self._stream.flush()
