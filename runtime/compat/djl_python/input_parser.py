"""Decorators that mark a script's functions by their part in answering a request. service_loader.py calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from djl_python.request_io import RequestInput, TextInput

__all__ = [
    "MARKS",
    "SAGEMAKER_ADAPTER_IDENTIFIER_HEADER",
    "RequestInput",
    "TextInput",
    "init_handler",
    "input_formatter",
    "marked",
    "prediction_handler",
]

SAGEMAKER_ADAPTER_IDENTIFIER_HEADER = "X-Amzn-SageMaker-Adapter-Identifier"
MARKS = {
    "init": "is_init_handler",
    "input": "is_input_formatter",
    "prediction": "is_prediction_handler",
    "output": "is_output_formatter",
}
"""The attributes by which LMI knows a function of each part (service_loader.get_annotated_function)."""

F = TypeVar("F", bound=Callable[..., Any])


def init_handler(function: F) -> F:
    """It gives the model: called once, with the model's folder, or the properties where it has an argument of that
    name."""
    return marked(function, "init")


def input_formatter(function: F) -> F:
    """It makes of an Input what the model takes."""
    return marked(function, "input")


def prediction_handler(function: F) -> F:
    """It makes of what the model takes what the model gives: called with the first, and with the model if it takes two
    arguments."""
    return marked(function, "prediction")


def marked(function: F, part: str) -> F:
    """The function, which now says its part."""
    setattr(function, MARKS[part], True)
    return function
