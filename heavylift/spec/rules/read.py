"""Reads a part of the plain document: nothing where it is missing, or of another kind. Not a check of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from heavylift.spec.fault import Fault

Data = dict[str, Any]
Rule = Callable[[Data], Iterator[Fault]]


def part(data: Data, *path: str) -> Data:
    """The mapping at a path, or an empty one."""
    here: Any = data
    for step in path:
        here = here.get(step) if isinstance(here, dict) else None
    return here if isinstance(here, dict) else {}


def rows(data: Data, *path: str) -> list[Any]:
    """The list at a path, or an empty one."""
    *most, last = path
    found = part(data, *most).get(last)
    return found if isinstance(found, list) else []


def whole(value: Any) -> int | None:
    """A whole number, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def named(data: Data, key: str) -> str:
    """A text field, or an empty text."""
    value = data.get(key)
    return value if isinstance(value, str) else ""
