"""Ordered pairs of a key and a value: the content of a request or a reply. Not a dictionary: keys may repeat.

`keys` and `values` are lists that a script may read and write, as in LMI. An empty value is a pair, too, and index 0 a
place, where upstream leaves the pair out, or puts it at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class PairList:
    """Ordered pairs of a key, which may be None, and a value."""

    def __init__(
        self,
        keys: list[str | None] | None = None,
        values: list[Any] | None = None,
        pair_list: Sequence[tuple[str | None, Any]] | None = None,
        pair_map: Mapping[str, Any] | None = None,
    ) -> None:
        """From keys and as many values (else ValueError), from pairs, or from a dictionary."""
        self.keys: list[str | None] = [] if keys is None else keys
        self.values: list[Any] = [] if values is None else values
        if len(self.keys) != len(self.values):
            raise ValueError(f"a PairList needs as many keys as values: got {len(self.keys)} and {len(self.values)}")
        for pair in (*(pair_list or ()), *(pair_map or {}).items()):
            self.add(pair=pair)

    def add(
        self,
        key: str | None = None,
        value: Any = None,
        index: int | None = None,
        pair: tuple[str | None, Any] | None = None,
    ) -> None:
        """Append a key and a value, or a pair; `index`: put it before the pair that stands there."""
        key, value = (key, value) if pair is None else pair
        place = len(self.keys) if index is None else index
        self.keys.insert(place, key)
        self.values.insert(place, value)

    def add_all(self, other: PairList) -> None:
        """Append another list's pairs."""
        self.keys.extend(other.keys)
        self.values.extend(other.values)

    def size(self) -> int:
        """How many pairs."""
        return len(self.keys)

    def is_empty(self) -> bool:
        """No pairs."""
        return not self.keys

    def get(self, key: str) -> Any:
        """The value of the first pair with this key, or None."""
        return next((value for each, value in self if each == key), None)

    def key_at(self, index: int) -> str | None:
        """The key of a pair."""
        return self.keys[index]

    def value_at(self, index: int) -> Any:
        """The value of a pair."""
        return self.values[index]

    def get_keys(self) -> list[str | None]:
        """All keys."""
        return self.keys

    def get_values(self) -> list[Any]:
        """All values."""
        return self.values

    def __iter__(self) -> Iterator[tuple[str | None, Any]]:
        return zip(self.keys, self.values, strict=True)

    def __len__(self) -> int:
        return len(self.keys)
