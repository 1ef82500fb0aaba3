"""A checkpoint's config.json, read field by field with every fault kept. Not what the fields mean: that is model.py.

A published config.json may leave out what its family assumes; every other silence, and every wrong type, is a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LARGEST = 2**40  # far above any size of a model: a larger number is a damaged file
SHOWN = 60  # characters of a wrong value


class Fields:
    """Reads typed values; what is wrong goes to `faults`, and a harmless value is returned, so that all are found."""

    def __init__(self, config: Mapping[str, Any], keys: Mapping[str, str], silent: Mapping[str, int]) -> None:
        """`keys`: our name → the family's own. `silent`: our name → what the family assumes where nothing is said."""
        self.faults: list[str] = []
        self._config, self._keys, self._silent = config, keys, silent

    def key(self, name: str) -> str:
        """The family's own key for our name."""
        return self._keys.get(name, name)

    def size(self, name: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least `least`; without a default of either kind it must be there."""
        key = self.key(name)
        value = self._config.get(key)
        if value is None:
            value = self._silent.get(name, default)
        if type(value) is not int or not least <= value <= LARGEST:
            self.faults.append(f"config.json: {key!r} is {shown(value)}; it must be a whole number from {least}")
            return max(least, 1)
        return value

    def maybe(self, name: str, least: int = 1) -> int | None:
        """The same, or None where config.json says nothing, null, or 0."""
        value = self._config.get(self.key(name), self._silent.get(name))
        return None if value is None or (type(value) is int and value == 0) else self.size(name, least=least)

    def flag(self, key: str, default: bool) -> bool:
        """A truth value under the family's own key."""
        value = self._config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.faults.append(f"config.json: {key!r} is {shown(value)}; it must be true or false")
            return default
        return value

    def word(self, key: str, default: str) -> str:
        """A text under the family's own key."""
        value = self._config.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self.faults.append(f"config.json: {key!r} is {shown(value)}; it must be a text")
            return default
        return value

    def items(self, key: str, kind: type, default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """A list whose entries are all of one type."""
        value = self._config.get(key)
        if value is None:
            return default
        if not isinstance(value, list) or any(type(each) is not kind for each in value):
            self.faults.append(f"config.json: {key!r} is {shown(value)}; it must be a list of {kind.__name__}")
            return default
        return tuple(value)

    def refuse(self, sentence: str) -> None:
        """A fault that several fields make together."""
        self.faults.append(f"config.json: {sentence}")


def shown(value: object) -> str:
    """A wrong value in a sentence, shortened."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
