"""The parts of a folder's model.py, found and called by a handler of one's own. Not the runtime's own way to them.

LMI has had two forms of it: `load_custom_code(model_dir)`, whose parts are under `.formatters` and `.handlers`, and a
class to derive a handler from, whose parts are its attributes. Source: djl-serving, engines/python,
custom_formatter_handling.py (v0.35 and v0.36).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from djl_python.service_loader import get_annotated_function
from djl_python.utils import get_sagemaker_function

Part = Callable[..., Any] | None


class CustomFormatterError(Exception):
    """A function of the model.py has failed; `original_exception` says why."""

    def __init__(self, message: str, original_exception: Exception) -> None:
        super().__init__(message)
        self.original_exception = original_exception
        self.__cause__ = original_exception


@dataclass
class CustomFormatters:
    """What makes of a request the model's input, and of its output a reply."""

    input_formatter: Part = None
    output_formatter: Part = None


@dataclass
class CustomHandlers:
    """What loads the model, and what asks it."""

    prediction_handler: Part = None
    init_handler: Part = None


@dataclass
class CustomCode:
    """The parts that a model.py has."""

    formatters: CustomFormatters = field(default_factory=CustomFormatters)
    handlers: CustomHandlers = field(default_factory=CustomHandlers)
    is_sagemaker_script: bool = False


class CustomFormatterHandler:
    """A handler that lets a model.py replace its parts."""

    def __init__(self) -> None:
        self.input_formatter: Part = None
        self.output_formatter: Part = None
        self.prediction_handler: Part = None
        self.init_handler: Part = None
        self.is_sagemaker_script = False

    @property
    def custom_code(self) -> CustomCode:
        """The same parts in LMI's older form."""
        return CustomCode(
            CustomFormatters(self.input_formatter, self.output_formatter),
            CustomHandlers(self.prediction_handler, self.init_handler),
            self.is_sagemaker_script,
        )

    def load_formatters(self, model_dir: str, namespace: str | None = None) -> CustomCode:
        """The decorated functions of the folder's model.py, else SageMaker's; CustomFormatterError where it cannot be
        imported."""
        try:
            for name in ("input_formatter", "output_formatter", "prediction_handler", "init_handler"):
                setattr(self, name, get_annotated_function(model_dir, f"is_{name}", namespace))
            if not any((self.input_formatter, self.output_formatter, self.prediction_handler, self.init_handler)):
                self.init_handler = get_sagemaker_function(model_dir, "model_fn")
                self.input_formatter = get_sagemaker_function(model_dir, "input_fn")
                self.prediction_handler = get_sagemaker_function(model_dir, "predict_fn")
                self.output_formatter = get_sagemaker_function(model_dir, "output_fn")
                found = (self.init_handler, self.input_formatter, self.prediction_handler, self.output_formatter)
                self.is_sagemaker_script = any(found)
        except Exception as error:
            raise CustomFormatterError(f"the code in {model_dir} cannot be loaded: {error}", error) from error
        return self.custom_code

    def apply_input_formatter(self, decoded_payload: Any, **kwargs: Any) -> Any:
        """What it makes of the payload, which is an Input for SageMaker's `input_fn`; without one, the payload."""
        if self.input_formatter is None:
            return decoded_payload
        if self.is_sagemaker_script:
            return _called(self.input_formatter, decoded_payload.get_as_bytes(), kwargs.get("content_type"))
        return _called(self.input_formatter, decoded_payload, **kwargs)

    def apply_output_formatter(self, output: Any, **kwargs: Any) -> Any:
        """What it makes of the output; without one, the output."""
        if self.output_formatter is None:
            return output
        if self.is_sagemaker_script:
            return _called(self.output_formatter, output, kwargs.get("accept"))
        return _called(self.output_formatter, output)

    async def apply_output_formatter_streaming_raw(self, stream_generator: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The same of each piece of a stream."""
        async for response in stream_generator:
            yield self.apply_output_formatter(response)

    def apply_init_handler(self, model_dir: str, **kwargs: Any) -> Any:
        """The model; without one, None."""
        return None if self.init_handler is None else _called(self.init_handler, model_dir, **kwargs)

    def apply_prediction_handler(self, X: Any, model: Any, **kwargs: Any) -> Any:
        """What the model gives; without one, None."""
        return None if self.prediction_handler is None else _called(self.prediction_handler, X, model, **kwargs)


def load_custom_code(model_dir: str) -> CustomCode:
    """The parts of a folder's model.py; CustomFormatterError where it cannot be imported."""
    return CustomFormatterHandler().load_formatters(model_dir)


def _called(part: Callable[..., Any], /, *given: Any, **named: Any) -> Any:
    try:
        return part(*given, **named)
    except Exception as error:
        name = getattr(part, "__name__", repr(part))
        raise CustomFormatterError(f"{name} of model.py failed: {type(error).__name__}: {error}", error) from error
