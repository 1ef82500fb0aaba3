"""The members of a JSON object, read by name, type and range. Every fault is kept, none is raised.

Not a schema. What was asked for are the known names; `rest` finds all others, each with the nearest of the known. null
means not given, as clients write out what their users left alone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, overload

from heavylift_runtime.server.schemas.document import is_unicode, shown

D = TypeVar("D")
LONGEST_KEY = 256  # characters of a value in a key
LIKE = 0.66  # difflib's ratio of a name and its misspelling: pad_token_id and detokenize have 0.64
MEANT = {"num_return_sequences": "n"}  # transformers' names for what no spelling is near to
MOST_FAULTS = 20  # the nearest names of a million keys would hold everybody up


class Fields:
    """One object and the faults of the request that it belongs to. Several names of one call are spellings of one
    thing; where more than one is given, they must agree."""

    def __init__(self, values: Mapping[str, Any], what: str, faults: list[str]) -> None:
        self._values = values
        self._given = frozenset(name for name, value in values.items() if value is not None)
        self._what = what
        self._known: list[str] = []
        self.faults = faults

    def take(self, *names: str) -> tuple[str, Any]:
        """The spelling that was given, and its value; the first spelling and None where none was."""
        self._known += names
        if self._given.isdisjoint(names):
            return names[0], None
        given = [(name, self._values[name]) for name in names if name in self._given]
        for name, value in given[1:]:
            if value != given[0][1]:
                self.faults.append(f"{given[0][0]!r} and {name!r} are the same thing and must be equal")
        return given[0]

    def key(self) -> tuple[tuple[str, type, Any], ...] | None:
        """All that was given, to be found again, with 1, 1.0 and true apart; None where a value is a list, an object or
        long."""
        found = tuple([(name, type(value), value) for name, value in self._values.items()])
        for _, kind, value in found:
            if kind is list or kind is dict or (kind is str and len(value) > LONGEST_KEY):
                return None
        return found

    def value(self, *names: str) -> Any:
        """What was given, of any kind; else None."""
        return self.take(*names)[1]

    def given(self, *names: str) -> bool:
        """Whether one of the names has a value."""
        return not self._given.isdisjoint(names)

    @overload
    def whole(self, *names: str, low: int, high: int) -> int | None: ...
    @overload
    def whole(self, *names: str, low: int, high: int, default: D) -> int | D: ...
    def whole(self, *names: str, low: int, high: int, default: Any = None) -> Any:
        """A whole number from low to high."""
        name, value = self.take(*names)
        if value is None:
            return default
        if type(value) is int and low <= value <= high:
            return value
        return self._fault(f"{name!r} must be a whole number from {low} to {high}", value, default)

    @overload
    def number(self, *names: str, low: float, high: float, above: bool = False) -> float | None: ...
    @overload
    def number(self, *names: str, low: float, high: float, above: bool = False, default: D) -> float | D: ...
    def number(self, *names: str, low: float, high: float, above: bool = False, default: Any = None) -> Any:
        """A number from low (`above`: not low itself) to high."""
        name, value = self.take(*names)
        if value is None:
            return default
        if type(value) in (int, float) and low <= value <= high and not (above and value == low):
            return float(value)
        span = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
        return self._fault(f"{name!r} must be a number {span}", value, default)

    @overload
    def flag(self, *names: str) -> bool | None: ...
    @overload
    def flag(self, *names: str, default: D) -> bool | D: ...
    def flag(self, *names: str, default: Any = None) -> Any:
        """true or false."""
        name, value = self.take(*names)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        return self._fault(f"{name!r} must be true or false", value, default)

    def text(self, *names: str) -> str | None:
        """A text."""
        name, value = self.take(*names)
        if value is None or (isinstance(value, str) and is_unicode(value)):
            return value
        self._fault(f"{name!r} must be a text", value)
        return None

    def texts(self, *names: str, most: int, length: int) -> tuple[str, ...]:
        """At most `most` texts of 1 to `length` characters, in a list; or one, without."""
        name, value = self.take(*names)
        rows = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(rows, list) or len(rows) > most or not all(_is_text(row, length) for row in rows):
            self._fault(f"{name!r} must be at most {most} texts of 1 to {length} characters", value)
            return ()
        return tuple(rows)

    def only(self, *names: str, allowed: tuple[Any, ...], why: str) -> None:
        """Something that this server answers at these values alone."""
        name, value = self.take(*names)
        if value is not None and not any(_same(value, each) for each in allowed):
            words = " or ".join(json.dumps(each) for each in (*allowed, None))
            self.faults.append(f"{name!r} must be {words}: {why}, got {shown(value)}")

    def ignore(self, *names: str) -> None:
        """Known, of any value, and without an effect on the answer."""
        self._known += names

    def rest(self) -> None:
        """Every name that was given, and not asked for, is a fault."""
        known = frozenset(self._known)
        unknown = (name for name, value in self._values.items() if value is not None and name not in known)
        for number, name in enumerate(itertools.islice(unknown, MOST_FAULTS)):
            near = [MEANT.get(name)] if MEANT.get(name) in known else get_close_matches(name[:80], known, 1, LIKE)
            every = f": use {', '.join(self._known)}" if number == 0 else ""
            hint = f": did you mean {near[0]!r}?" if near else every
            self.faults.append(f"unknown {self._what} {shown(name)}{hint}")

    def _fault(self, sentence: str, value: Any, default: Any = None) -> Any:
        self.faults.append(f"{sentence}: got {shown(value)}")
        return default


def _is_text(value: Any, length: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= length and is_unicode(value)


def _same(value: object, allowed: object) -> bool:
    """Equal, and both numbers or both booleans: in Python, 0 == False."""
    return isinstance(value, bool) is isinstance(allowed, bool) and value == allowed
