"""One fault of a model file, and where in the document it is. Not its position in the text: document.py knows that."""

from __future__ import annotations

from typing import Any, NamedTuple

Path = tuple[str | int, ...]
LONGEST_KEY = 60  # characters of it that a sentence shows


class Fault(NamedTuple):
    """`path` leads to the value; `at_key` means that the key itself is at fault."""

    path: Path
    sentence: str
    at_key: bool = False


def dotted(path: Path) -> str:
    """`benchmark.slo[0].max_ms`"""
    text = ""
    for step in path:
        named = f"[{step}]" if isinstance(step, int) else short(step)
        text += named if isinstance(step, int) or not text else f".{named}"
    return text


def short(key: str) -> str:
    """A key, cut where it is too long for a sentence."""
    return key if len(key) <= LONGEST_KEY else key[: LONGEST_KEY - 1] + "…"


def escaped(sentence: str) -> str:
    """In one line; what a terminal would obey is written as an escape."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in sentence)


def shown(value: Any) -> str:
    """A value as the user wrote it, short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…" + ("'" if isinstance(value, str) else "")
