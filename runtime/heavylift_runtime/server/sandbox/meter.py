"""What a template has left to spend: units, of about a character each. Not what costs what: that is environment.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

STEP = 64  # units of anything that is done, beside its size
BUDGET = 16_000_000  # units of every template: a second of the slowest that was found; and for each character
PER_UNIT = 24  # of its variables, so many more: twice what a template in use was seen to spend


class Costly(Exception):
    """The template did not end within its budget."""


@dataclass
class Meter:
    """One rendering's units; `body` is what it costs to write the template's own text once."""

    left: int
    body: int

    @classmethod
    def of(cls, variables: Any, body: int) -> Meter:
        """A full one, for these variables and a template of so many characters."""
        free = cls(BUDGET, body)
        free.pay(variables)
        return cls(BUDGET + PER_UNIT * (BUDGET - free.left), body)

    def pay(self, *values: Any) -> None:
        """For each value and what it holds: texts by their characters, all else by STEP."""
        waiting = list(values)
        while waiting:
            value = waiting.pop()
            self.spend(STEP + len(value) if isinstance(value, str | bytes) else STEP)
            if isinstance(value, list | tuple):
                self.spend(len(value))
                waiting += value
            elif isinstance(value, dict):
                self.spend(len(value))
                waiting += [*value, *value.values()]

    def spend(self, units: int) -> None:
        """Costly where that is more than is left."""
        self.left -= units
        if self.left < 0:
            raise Costly("the template takes too long")


_current: ContextVar[Meter | None] = ContextVar("the meter of the template that is rendered", default=None)


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """What is paid in here is paid from this meter; outside, as when a template is compiled, all is free."""
    token = _current.set(meter)
    try:
        yield
    finally:
        _current.reset(token)


def pay(*values: Any) -> None:
    """For values that are read or made."""
    if (meter := _current.get()) is not None:
        meter.pay(*values)


def spend(units: int, bodies: int = 0) -> None:
    """For what is about to be made; `bodies`: how often the template's own text may be written for it."""
    if (meter := _current.get()) is not None:
        meter.spend(units + bodies * (STEP + meter.body))
