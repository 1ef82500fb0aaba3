"""Checks a decoded JSON object against a table of fields, and lists every fault at once.

Not a schema language: types, a lower bound, a choice; what JSON on our own borders needs, without pydantic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class FormatError(ValueError):
    """A document is not in the form that Heavylift reads; `faults` has one sentence each."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


@dataclass(frozen=True)
class Field:
    """What one key may hold: `kind` (an int may stand for a float, a bool never for an int), its limits and form."""

    kind: type
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None

    def fault(self, key: str, value: Any) -> str | None:
        """The sentence that says why `value` is refused, or None."""
        kinds = (int, float) if self.kind is float else (self.kind,)
        if type(value) not in kinds:
            name = {float: "number", int: "integer", str: "string", dict: "object", list: "list"}.get(self.kind)
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


def faults(document: Any, fields: Mapping[str, Field], where: str) -> list[str]:
    """Every key that is missing, unknown or wrong; `where` names the object in the sentences."""
    if not isinstance(document, dict):
        return [f"{where} is {type(document).__name__}; it must be a JSON object"]
    found = [f"{where} has no {key}" for key in fields if key not in document]
    for key, value in document.items():
        if key not in fields:
            found.append(f"{where} has the unknown key {key!r}; known: {', '.join(fields)}")
        elif fault := fields[key].fault(f"{where}.{key}", value):
            found.append(fault)
    return found
