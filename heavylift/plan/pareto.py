"""The candidates that no other beats in everything: the only ones worth a look. Not the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def front(items: Iterable[T], costs: Callable[[T], Sequence[float]]) -> list[T]:
    """Those of which no other has all costs at most equal and one lower; of equals the first. In order of costs."""
    kept: list[tuple[tuple[float, ...], T]] = []
    for cost, item in sorted(((tuple(costs(item)), item) for item in items), key=lambda pair: pair[0]):
        # sorted: what comes later cannot beat what is kept
        if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other, _ in kept):
            kept.append((cost, item))
    return [item for _, item in kept]
