"""A script's file as a service: its module, and the one function that answers a request. Not the process it runs in.

A script answers in one of four ways: `handle(inputs)`; functions marked by the decorators of input_parser.py and
output_formatter.py; formatters alone, between which an engine answers (formatted.py); or SageMaker's `model_fn`, and
`input_fn`, `predict_fn`, `output_fn` or one `transform_fn` (sagemaker-inference-toolkit).
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from djl_python.calling import offered
from djl_python.encode_decode import decode, encode
from djl_python.input_parser import MARKS
from djl_python.inputs import Input
from djl_python.outputs import Output
from djl_python.torchserve import MANIFEST, torchserve_handler

Handler = Callable[[Input], Any]
_PARAMETERS = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}


class ModelService:
    """A loaded script."""

    def __init__(self, module: ModuleType, model_dir: str) -> None:
        self.module, self.model_dir = module, model_dir

    def handler(self, name: str) -> Handler:
        """The function that answers; AttributeError, with a sentence, where the script has none."""
        if Path(self.model_dir, MANIFEST).is_file():
            return torchserve_handler(self.module, self.model_dir)
        handle = getattr(self.module, name, None)
        if callable(handle):
            found: Handler = handle
            return found
        known = list(vars(self.module).values())
        parts = {part: each for part, mark in MARKS.items() for each in known if getattr(each, mark, None) is True}
        if "prediction" in parts:
            return _decorated(parts, self.model_dir)
        if parts.keys() & {"input", "output"}:
            from djl_python.formatted import formatted_handler  # needs the runtime

            return formatted_handler(parts)
        functions = {name: getattr(self.module, name) for name in _PARAMETERS if hasattr(self.module, name)}
        if "predict_fn" in functions or "transform_fn" in functions:
            return _sagemaker(functions, self.model_dir)
        file = Path(self.module.__file__ or self.module.__name__).name
        raise AttributeError(f"{file} has no function {name!r}: define it, or set option.handler")

    def invoke_handler(self, function_name: str, inputs: Input) -> Any:
        """What the function returns."""
        return self.handler(function_name)(inputs)


def load_model_service(model_dir: str, entry_point: str, device_id: int = -1) -> ModelService:
    """The script of a folder, imported under its file's name, so that what it pickles can be found again."""
    del device_id  # upstream's third argument; a script reads it from its properties
    file = Path(model_dir, entry_point if entry_point.endswith(".py") else f"{entry_point}.py")
    name = file.stem
    if name in sys.modules or name in sys.stdlib_module_names or not name.isidentifier():
        raise ImportError(f"{file.name} has the name of another module: rename it, and set option.entryPoint")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return ModelService(module, model_dir)


def has_function_in_module(module: ModuleType, function_name: str) -> bool:
    """The module has a function of this name."""
    return callable(getattr(module, function_name, None))


def find_decorated_function(module: ModuleType, decorator_attribute: str) -> Callable[..., Any] | None:
    """The module's function with an attribute that a decorator gave it (input_parser.MARKS), or None."""
    found = (each for each in vars(module).values() if callable(each) and getattr(each, decorator_attribute, False))
    return next(found, None)


def get_annotated_function(
    model_dir: str, decorator_attribute: str, namespace: str | None = None
) -> Callable[..., Any] | None:
    """The same of a folder's model.py, which is imported once; None where there is no such file.

    `namespace` is upstream's word for adapters that bring a model.py of their own: it changes nothing here.
    """
    del namespace
    module = model_of(model_dir)
    return None if module is None else find_decorated_function(module, decorator_attribute)


def model_of(model_dir: str) -> ModuleType | None:
    """A folder's model.py, also where it is the script that runs; None where there is no such file."""
    file = Path(model_dir, "model.py")
    if not file.is_file():
        return None
    loaded = sys.modules.get("model")
    if loaded is not None and Path(loaded.__file__ or "").resolve() == file.resolve():
        return loaded
    return load_model_service(model_dir, "model.py").module


def _decorated(parts: dict[str, Callable[..., Any]], model_dir: str) -> Handler:
    """As LMI's documentation has them: init_handler(model_dir), whose model prediction_handler(data, model) gets."""
    model: list[Any] = [None]

    def handle(inputs: Input) -> Any:
        if inputs.is_empty():
            if "init" in parts:
                model[:] = [offered(parts["init"], model_dir, properties=inputs.get_properties())]
            return None
        own = "input" in parts
        given = parts["input"](inputs) if own else _decoded(inputs, inputs.get_property("content-type"))
        made = offered(parts["prediction"], given, *model)
        return parts["output"](made) if "output" in parts else made

    return handle


def _sagemaker(functions: dict[str, Callable[..., Any]], model_dir: str) -> Handler:
    """SageMaker's functions; each must take as many arguments as the toolkit gives it."""
    for name, function in functions.items():
        if (count := len(inspect.signature(function).parameters)) != _PARAMETERS[name]:
            raise AttributeError(f"{name} must take {_PARAMETERS[name]} arguments: it takes {count}")
    if "transform_fn" in functions and (others := functions.keys() - {"model_fn", "transform_fn"}):
        raise AttributeError(f"transform_fn stands alone: remove it, or {' and '.join(sorted(others))}")
    model: list[Any] = []

    def handle(inputs: Input) -> Any:
        if inputs.is_empty():
            model[:] = [functions["model_fn"](model_dir) if "model_fn" in functions else None]
            return None
        kind = inputs.get_property("content-type") or "application/json"
        accept = inputs.get_property("accept") or "*/*"
        if accept == "*/*":
            accept = inputs.get_property("default_accept") or "application/json"
        if "transform_fn" in functions:
            return _answered(functions["transform_fn"](*model, inputs.get_as_bytes(), kind, accept), accept)
        own = "input_fn" in functions
        given = functions["input_fn"](inputs.get_as_bytes(), kind) if own else _decoded(inputs, kind)
        made = functions["predict_fn"](given, *model)
        if "output_fn" not in functions:
            return encode(Output(), made, accept)
        return _answered(functions["output_fn"](made, accept), accept)

    return handle


def _decoded(inputs: Input, kind: str | None) -> Any:
    """The body for a function that computes: of arrays, the arrays themselves."""
    arrays = (kind or "").lower().startswith(("tensor/", "application/x-npy"))
    return decode(inputs, kind)["inputs"] if arrays else decode(inputs, kind)


def _answered(made: Any, accept: str) -> Output:
    """A body, or a body and its type."""
    body, kind = made if isinstance(made, tuple) else (made, accept.partition(",")[0])
    return Output().add_property("content-type", kind).add(body)
