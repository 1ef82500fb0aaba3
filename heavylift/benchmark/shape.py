"""Checks a decoded JSON object against a table of fields, and lists every fault at once.

Not a schema language: types, a lower bound, a choice; what JSON on our own borders needs, without pydantic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NAMES = {float: "number", int: "integer", str: "string", dict: "object", list: "list", bool: "boolean"}


class FormatError(ValueError):
    """A document is not in the form that Heavylift reads; `faults` has one sentence each."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True)
class Field:
    """What one key may hold: `kind` (an int may stand for a float, a bool never for an int), its limits and form; or
    one of `words` instead."""

    kind: type
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    words: tuple[str, ...] = ()

    def fault(self, key: str, value: Any) -> str | None:
        """The sentence that says why `value` is refused, or None."""
        if type(value) is str and value in self.words:
            return None
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(value) not in kinds:
            name = NAMES[self.kind] + "".join(f" or {word!r}" for word in self.words)
            return f"{key} is {json.dumps(value, default=str)}; it must be a JSON {name}"
        if self.choices and value not in self.choices:
            return f"{key} is {value!r}; allowed: {', '.join(self.choices)}"
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            return f"{key} is {value!r}; it must match {self.pattern}"
        if self.least is not None and not value >= self.least:
            return f"{key} is {value}; it must be at least {self.least:g}"
        if self.most is not None and not value <= self.most:
            return f"{key} is {value}; it must be at most {self.most:g}"
        return None


def faults(
    document: Any, fields: Mapping[str, Field], where: str, optional: Mapping[str, Field] | None = None
) -> list[str]:
    """Every key that is missing, unknown or wrong; `where` names the object in the sentences."""
    known = {**fields, **({} if optional is None else optional)}
    if not isinstance(document, dict):
        return [f"{where} is {type(document).__name__}; it must be a JSON object"]
    found = [f"{where} has no {key}" for key in fields if key not in document]
    for key, value in document.items():
        if key not in known:
            found.append(f"{where} has the unknown key {key!r}; known: {', '.join(known)}")
        elif fault := known[key].fault(f"{where}.{key}", value):
            found.append(fault)
    return found
