"""How the texts of serving.properties are read: numbers, words, types, variables. Not which key is which: keys.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Value = str | int | bool | Mapping[str, str]
_TYPES = {"float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}
_OF_RANKS = frozenset(
    {
        *("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"),
        *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    }
)
"""What the runtime tells each rank."""
_NOT_THEIRS = ("HEAVYLIFT_", "MASTER_", "OMPI_", "PYTHON", "LD_")
"""Beginnings of what it tells them, too, and of what decides which code they run."""


class BadValue(ValueError):
    """A value outside of what its key allows; the message is the allowed values."""


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from low to high."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
            raise BadValue(f"a whole number from {low} to {high}")
        return int(text)

    return read


def one_of(*allowed: str) -> Callable[[str], str]:
    """One of some words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise BadValue(" or ".join(repr(word) for word in allowed))
        return text

    return read


def word(text: str) -> str:
    """Any text but none."""
    if not text:
        raise BadValue("a text that is not empty")
    return text


def flag(text: str) -> bool:
    """true or false, in any letters: AWS's samples write True."""
    return one_of("true", "false")(text.lower()) == "true"


def lowered(text: str) -> str:
    """Any text but none, in any letters."""
    return word(text).lower()


def dtype(text: str) -> str:
    """A type of numbers by LMI's name, or by torch's and vLLM's."""
    return one_of("auto", "fp32", "fp16", "bf16")(_TYPES.get(text.lower(), text.lower()))


def streaming(text: str) -> str:
    """Python's spelling and LMI's."""
    return one_of("true", "false", "huggingface")(text.lower())


def variables(text: str) -> Mapping[str, str]:
    """NAME=value pairs with commas between them, as LMI reads them. No message holds a value: it may be a secret."""
    found: dict[str, str] = {}
    for number, pair in enumerate(text.split(","), start=1):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not name and not equals:
            continue
        if not equals or not (name.isascii() and name.isidentifier()) or "\0" in value:
            raise BadValue(f"NAME=value pairs with commas between them, and pair {number} is none")
        if name in _OF_RANKS or name.startswith(_NOT_THEIRS):
            raise BadValue(f"variables of the model's, and {name} is not one of these: leave it out")
        found[name] = value
    return found


def degree(text: str) -> int:
    """A number of ranks; `max` is replaced by the number of devices before it gets here (options.py)."""
    try:
        return whole(1, 64)(text)
    except BadValue as error:
        raise BadValue(f"{error}, or 'max'") from error
