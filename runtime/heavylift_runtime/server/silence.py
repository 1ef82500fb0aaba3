"""How long a copy that has work says nothing. Not what is done about it: the copy falls, and supervisor.py restarts it.

A busy machine is no dead rank. What a rank's threads have waited for a processor is not silence (the kernel counts it:
proc(5), /proc/pid/schedstat), and neither is a time in which this process itself could not look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from heavylift_runtime.ranks import Copy

_LOOKS = 8  # in the time after which a copy falls
_MOST = 0.9  # of the time since the last look that may be waiting: a rank that spins for ever waits, too


class Silence:
    """Of one copy. Times in seconds of `clock`."""

    def __init__(
        self, copy: Copy, seconds: float, clock: Callable[[], float], busy: Callable[[], bool], sentence: str
    ) -> None:
        """After `seconds` while `busy`, the copy falls with the sentence."""
        self._copy, self._seconds, self._clock, self._busy, self._sentence = copy, seconds, clock, busy, sentence
        self._heard = self._looked = self._waited = self._silent = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """It has work, now or still."""
        if self._timer is None:
            self._heard = self._looked = self._clock()
            self._waited, self._silent = self._copy.waited(), 0.0
            self._later()

    def heard(self) -> None:
        """It has said something."""
        self._heard = self._clock()

    def end(self) -> None:
        """Nobody waits for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self) -> None:
        step = min(self._seconds / _LOOKS, self._seconds - self._silent)
        self._timer = asyncio.get_running_loop().call_later(step, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._busy():
            return
        now, waited = self._clock(), self._copy.waited()
        if self._heard > self._looked:
            self._silent = now - self._heard
        else:
            passed = min(now - self._looked, 2 * self._seconds / _LOOKS)
            self._silent += passed - min(waited - self._waited, _MOST * passed)
        self._looked, self._waited = now, waited
        if self._silent < self._seconds:
            self._later()
        else:
            self._copy.fall(self._sentence)
