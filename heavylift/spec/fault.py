"""One fault of a model file, and where in the document it is. Not its position in the text: document.py knows that."""

from __future__ import annotations

from typing import Any, NamedTuple

Path = tuple[str | int, ...]


class Fault(NamedTuple):
    """`path` leads to the value; `at_key` means that the key itself is at fault."""

    path: Path
    sentence: str
    at_key: bool = False


def dotted(path: Path) -> str:
    """`benchmark.slo[0].max_ms`"""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def shown(value: Any) -> str:
    """A value as the user wrote it, short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…" + ("'" if isinstance(value, str) else "")
