"""What a number or a name must keep to, as sentences. Not which: each construct knows its own limits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from heavylift.errors import InputError
from heavylift_cdk.values import is_token

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
"""EndpointName, VariantName, InferenceComponentName (SageMaker API reference, CreateEndpointConfig)."""


def between(what: str, value: float | None, low: float, high: float) -> Iterator[str]:
    """The fault of a value that is given and out of its range, or none."""
    if value is not None and not low <= value <= high:
        yield f"'{what}' must be {low:g} to {high:g}: got {value:g}"


def named(what: str, value: str | None) -> Iterator[str]:
    """The fault of a name that SageMaker does not take, or none; what is only known when deployed passes."""
    if value is not None and not is_token(value) and NAME.fullmatch(value) is None:
        yield f"'{what}' must be letters, digits and inner hyphens, at most 63: got '{value}'"


def refuse(faults: Iterator[str]) -> None:
    """Raise InputError with all faults, each once, where there are any."""
    if found := tuple(dict.fromkeys(faults)):
        raise InputError(found)
