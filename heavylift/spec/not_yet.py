"""What a model file can say and nothing honours yet: refused with a sentence, never ignored.

Whoever builds one of these takes its line out. A path leads to a field, "*" through a list; defaults need no building.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from heavylift.spec.fault import Fault, Path, dotted

NOT_YET: Mapping[tuple[str, ...], str] = MappingProxyType({})
DEFAULTS: Mapping[tuple[str, ...], Any] = MappingProxyType({})


def not_yet(data: dict[str, Any]) -> Iterator[Fault]:
    """A fault for each field that is said, is not at its default, and is not built."""
    for path, instead in NOT_YET.items():
        for place, value in _found(data, path, ()):
            if value is not None and value != DEFAULTS.get(path) and value not in ({}, []):
                known = f"'{dotted(place)}' is known, but this version does not build it yet"
                yield Fault(place, f"{known} ({instead}); leave it out", at_key=True)


def _found(value: Any, path: tuple[str, ...], at: Path) -> Iterator[tuple[Path, Any]]:
    if not path:
        yield at, value
    elif path[0] == "*":
        for index, each in enumerate(value if isinstance(value, list) else ()):
            yield from _found(each, path[1:], (*at, index))
    elif isinstance(value, dict) and path[0] in value:
        yield from _found(value[path[0]], path[1:], (*at, path[0]))
