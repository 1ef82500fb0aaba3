"""What a model file can say and nothing honours yet: refused with a sentence, never ignored.

Whoever builds one of these takes its line out. A path leads to a field; its default needs no building.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from heavylift.spec.fault import Fault, dotted

NOT_YET: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("staging",): "`heavylift weights push` copies the weights",
        ("image", "dlc"): "give the container's own address as 'image.uri'",
        ("image", "build"): "Docker builds it",
        ("partition",): "each rank splits the weights as it loads",
        ("compile",): "nothing is compiled ahead of time",
        ("secrets",): "a script can ask Secrets Manager itself",
        ("multi_model",): "the endpoint has one model",
    }
)
DEFAULTS: Mapping[tuple[str, ...], Any] = MappingProxyType({})


def not_yet(data: dict[str, Any]) -> Iterator[Fault]:
    """A fault for each field that is said, is not at its default, and is not built."""
    for path, instead in NOT_YET.items():
        value: Any = data
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None and value != DEFAULTS.get(path) and value not in ({}, []):
            sentence = f"'{dotted(path)}' is known, but this version does not build it yet ({instead}); leave it out"
            yield Fault(path, sentence, at_key=True)
