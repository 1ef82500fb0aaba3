"""The decorator of a script's output formatter, and the types that one is written with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from djl_python.input_parser import marked
from djl_python.request_io import RequestOutput, Sequence, TextGenerationOutput, Token

__all__ = ["RequestOutput", "Sequence", "TextGenerationOutput", "Token", "output_formatter"]

F = TypeVar("F", bound=Callable[..., Any])


def output_formatter(function: F) -> F:
    """It makes of what the model gives the reply."""
    return marked(function, "output")
