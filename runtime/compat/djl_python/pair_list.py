"""Ordered pairs of a key and a value: the content of a request or a reply. Not a dictionary: keys may repeat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class PairList:
    """Ordered pairs of a key, which may be None, and a value."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str | None, Any]] = []

    def add(self, key: str | None = None, value: Any = None) -> None:
        """Append a pair."""
        self.pairs.append((key, value))

    def add_all(self, other: PairList) -> None:
        """Append another list's pairs."""
        self.pairs.extend(other.pairs)

    def size(self) -> int:
        """How many pairs."""
        return len(self.pairs)

    def is_empty(self) -> bool:
        """No pairs."""
        return not self.pairs

    def get(self, key: str) -> Any:
        """The value of the first pair with this key, or None."""
        return next((value for each, value in self.pairs if each == key), None)

    def key_at(self, index: int) -> str | None:
        """The key of a pair."""
        return self.pairs[index][0]

    def value_at(self, index: int) -> Any:
        """The value of a pair."""
        return self.pairs[index][1]

    def get_keys(self) -> list[str | None]:
        """All keys."""
        return [key for key, _ in self.pairs]

    def get_values(self) -> list[Any]:
        """All values."""
        return [value for _, value in self.pairs]

    def __iter__(self) -> Iterator[tuple[str | None, Any]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)
