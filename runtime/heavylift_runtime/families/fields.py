"""Reads typed values out of a config.json, and collects every fault on the way, so that a user sees all at once.

Not a schema: a family asks for the keys that shape it, and no other key is looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from heavylift_runtime.errors import LoadError

T = TypeVar("T")
MOST_LAYERS = 1000
"""Layers and experts that are read; the largest published models have some hundreds."""
LARGEST = 2**40
"""A size beyond this is a mistake, and makes a table that nothing can compute with."""


class Fields:
    """A config.json, and what its family assumes where it is silent or says null."""

    def __init__(self, config: Mapping[str, Any], silent: Mapping[str, Any] | None = None) -> None:
        self._config, self._silent = config, silent or {}
        self.faults: list[str] = []

    def given(self, name: str) -> Any:
        """The value as it stands, or what the family assumes."""
        value = self._config.get(name)
        return self._silent.get(name) if value is None else value

    def says(self, name: str) -> bool:
        """config.json has the key, be it with null."""
        return name in self._config

    def none(self, name: str) -> bool:
        """config.json says null, or nothing, and the family has no other value for it then."""
        return self._config.get(name) is None and (self.says(name) or self._silent.get(name) is None)

    def whole(self, name: str, *, least: int = 1, most: int = LARGEST) -> int:
        """A whole number in a range; the least one, and a fault, where it is none."""
        value = self.given(name)
        if type(value) is not int or value < least:
            self.refuse(name, f"it must be a whole number of at least {least}")
            return least
        if value > most:
            self.refuse(name, f"at most {most} are read")
            return least
        return value

    def number(self, name: str, *, above: float = 0.0, below: float = float("inf")) -> float:
        """A number in an open range; 0.5 and a fault where it is none."""
        value = self.given(name)
        if type(value) not in (int, float) or not above < value < below:
            limits = f"between {above:g} and {below:g}" if below < float("inf") else f"above {above:g}"
            self.refuse(name, f"it must be a number {limits}")
            return 0.5
        return float(value)

    def truth(self, name: str) -> bool:
        value = self.given(name)
        if type(value) is not bool:
            self.refuse(name, "it must be true or false")
        return value is True

    def choice(self, name: str, known: Mapping[str, T]) -> T:
        """What one of the known words stands for; the first one, and a fault, for another."""
        value = self.given(name)
        if not isinstance(value, str) or value not in known:
            self.refuse(name, f"known are {', '.join(map(repr, known))}")
            return next(iter(known.values()))
        return known[value]

    def only(self, name: str, value: object, why: str) -> None:
        """A fault unless config.json says this, or nothing."""
        if self._config.get(name, value) not in (value, None):
            self.refuse(name, why)

    def architecture(self, names: Collection[str]) -> None:
        """A fault where `architectures` names none of these; config.json may leave it out."""
        value = self._config.get("architectures")
        if value is not None and (not isinstance(value, list) or not any(name in value for name in names)):
            self.refuse("architectures", f"only {' or '.join(map(repr, names))} generates text")

    def refuse(self, name: str, why: str) -> None:
        shown = repr(self.given(name))
        self.faults.append(f"config.json: {name!r} is {shown if len(shown) <= 100 else shown[:99] + '…'}; {why}")

    def prove(self) -> None:
        """LoadError with every fault so far, each once."""
        if self.faults:
            raise LoadError("\n".join(dict.fromkeys(self.faults)))
