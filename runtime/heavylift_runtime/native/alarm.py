"""How the ranks of one model come together again when one of them cannot go on in the middle of a step.

Not what it could not do, nor what is done about it (core.py). A rank raises the alarm in memory that all share; another
sees it where it would wait in vain, so that a good step pays nothing. Exchanges are all or nothing: one to which a rank
did not come is completed by nobody, so that ranks differ by no more than what they do between two exchanges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ANSWERED, BEGUN, PLACE, VICTIM = 3, 4, 5, 6
"""A rank's numbers in its line of shared memory, behind those of its exchanges (shared_memory.py)."""
NOBODY = -1


class Interrupted(RuntimeError):
    """Another rank cannot go on: what this one waits for will not come."""


@dataclass(frozen=True)
class Account:
    """What a rank says when the alarm is raised."""

    place: int
    """How far it has come; odd where what it does can be left without a trace."""
    victim: int = NOBODY
    """The request that it could not go on with."""


class Alarm:
    """One rank's part; `count` alarms are over."""

    def __init__(
        self, numbers: memoryview, line: int, rank: int, world: int, wait: Callable[[int, int, int], None]
    ) -> None:
        """`numbers`: all ranks' lines of so many numbers; `wait`: until a rank's number is as high."""
        self._numbers, self._line, self._wait = numbers, line, wait
        self._own, self._others = rank * line, [other for other in range(world) if other != rank]
        self._world, self._count = world, 0

    def raised_by(self, rank: int) -> bool:
        """It does nothing more before all have answered."""
        return bool(self._numbers[rank * self._line + ANSWERED] > self._count)

    def answer(self, account: Account) -> list[Account]:
        """Raises it, or joins in; every rank's account, once all have given theirs. Nobody exchanges anything now."""
        self._numbers[self._own + PLACE], self._numbers[self._own + VICTIM] = account.place, account.victim
        self._meet(ANSWERED)
        firsts = range(0, self._world * self._line, self._line)
        return [Account(self._numbers[first + PLACE], self._numbers[first + VICTIM]) for first in firsts]

    def over(self) -> None:
        """All have begun anew when this returns."""
        self._meet(BEGUN)
        self._count += 1

    def _meet(self, number: int) -> None:
        self._numbers[self._own + number] = self._count + 1
        for rank in self._others:
            self._wait(rank, number, self._count + 1)
