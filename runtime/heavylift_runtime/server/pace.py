"""How fast rows end, so that a client that is refused can be told when to come back. Not a limit on anything."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

_LAST = 32  # rows that the estimate looks back on
_LONGEST = 60  # seconds; SageMaker's own limit for a reply


class Pace:
    """The ends of the last rows."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends: deque[float] = deque(maxlen=_LAST)

    def step(self) -> None:
        """A row has ended."""
        self._ends.append(self._clock())

    def until(self, waiting: int) -> int:
        """Whole seconds until so many have ended, at the pace of the last ones: 1 to 60; 1 where nothing is known."""
        if len(self._ends) < 2:
            return 1
        each = (self._clock() - self._ends[0]) / len(self._ends)
        return min(max(math.ceil(waiting * each), 1), _LONGEST)
