"""What scripts import of LMI's module of this name: a model's file, SageMaker's functions, a request's wishes.

Not its rolling batch (`rolling_batch_inference`, `get_input_details`), which is the server's here.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from djl_python.service_loader import model_of

SAGEMAKER_SIGNATURES = {
    "model_fn": [["model_dir"]],
    "input_fn": [["request_body", "content_type"], ["request_body", "request_content_type"]],
    "predict_fn": [["input_data", "model"]],
    "output_fn": [["prediction", "accept"], ["prediction", "response_content_type"]],
}
"""The names of parameters that LMI takes for SageMaker's."""

_log = logging.getLogger("djl_python")


class IdCounter:
    """Numbers for requests, from 0 to 999998 and again."""

    MAX_ID = 999_999

    def __init__(self) -> None:
        self.id = 0

    def get_id(self) -> int:
        """The next number, which stays the next."""
        return self.id

    def next_id(self) -> int:
        """The next number."""
        number, self.id = self.id, (self.id + 1) % self.MAX_ID
        return number

    def reset(self) -> None:
        """From 0 again."""
        self.id = 0


def find_model_file(model_dir: str, extensions: Sequence[str]) -> str | None:
    """The one file of a folder with one of these endings (without dots), or None; ValueError where there are more."""
    found = sorted({str(file) for each in extensions for file in Path(model_dir).glob(f"*.{each}")})
    if len(found) > 1:
        raise ValueError(f"{model_dir} must have one file that ends in {', '.join(extensions)}: got {', '.join(found)}")
    return next(iter(found), None)


def get_sagemaker_function(model_dir: str, func_name: str) -> Callable[..., Any] | None:
    """`model_fn`, `input_fn`, `predict_fn` or `output_fn` of a folder's model.py, or None.

    Also None, with a line in the log, where its parameters have other names than SageMaker's.
    """
    function: Any = getattr(model_of(model_dir), func_name, None) if func_name in SAGEMAKER_SIGNATURES else None
    if not callable(function):
        return None
    if (names := list(inspect.signature(function).parameters)) in SAGEMAKER_SIGNATURES[func_name]:
        found: Callable[..., Any] = function
        return found
    allowed = " or ".join(f"({', '.join(each)})" for each in SAGEMAKER_SIGNATURES[func_name])
    _log.warning("%s(%s) of model.py is left out: its parameters must be %s", func_name, ", ".join(names), allowed)
    return None


def is_best_of(parameters: Mapping[str, Any]) -> bool:
    """The request wants the best of several answers."""
    return bool(parameters.get("best_of", 1) > 1)


def is_beam_search(parameters: Mapping[str, Any]) -> bool:
    """The request wants a beam search."""
    return bool(parameters.get("num_beams", 1) > 1)


def is_multiple_sequences(parameters: Mapping[str, Any]) -> bool:
    """The request wants several answers."""
    return bool(parameters.get("n", 1) > 1)


def is_streaming(parameters: Mapping[str, Any]) -> bool:
    """The request wants a stream."""
    return bool(parameters.get("stream"))


def wait_till_generation_finished(parameters: Mapping[str, Any]) -> bool:
    """The request's answer is known only at its end."""
    return is_best_of(parameters) or is_multiple_sequences(parameters) or is_beam_search(parameters)
