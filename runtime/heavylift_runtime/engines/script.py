"""The bring-your-own engine: a user's model.py with `handle(inputs)`, LMI's handler contract. Not a text generator.

It answers raw requests, because the script decides what a request is. The first call has no content: scripts load their
model then. Source: deepjavalibrary/djl-serving v0.23, djl_python_engine and its PyPredictor.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from heavylift_runtime.engines.download import fetch
from heavylift_runtime.engines.handler import Input, Output
from heavylift_runtime.engines.requirements import satisfy
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from heavylift_runtime.wire import Message

COMPAT = Path(__file__).resolve().parents[2] / "compat"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_LONGEST = 2000  # characters of an exception's text
_UNSENT = ("content-length", "transfer-encoding", "connection")  # the server's own


class Script:
    """A loaded script; `answer` maps a `call` message to an `answer` or an `error`."""

    def __init__(self, handle: Callable[[Input], Any], properties: dict[str, Any]) -> None:
        self._handle = handle
        self._properties = properties

    def warm_up(self) -> None:
        """The call without content; raises LoadError where the script fails it."""
        try:
            output = self._handle(Input(self._properties))
        except Exception as error:
            traceback.print_exc()
            raise LoadError(f"the script failed its empty first call: {_words(error)}") from error
        if isinstance(output, Output) and output.code >= 300:
            texts = b" ".join(output.content.get_values()).decode("utf-8", "replace")
            raise LoadError(f"the script answered its empty first call with code {output.code}: {texts}")

    def answer(self, message: Message) -> Message:
        """One request."""
        inputs = Input(_attributes(message.header["properties"]) | self._properties)
        inputs.content.add("data", message.body)
        try:
            output = _output(self._handle(inputs))
            body = b"".join(output.content.get_values())
            answer = Message({"type": "answer", "code": _code(output), "headers": _headers(output)}, body)
        except Exception as error:  # whatever a script raises is its client's answer, and no reason to stop
            traceback.print_exc()
            return Message({"type": "error", "code": 424, "error": f"the script failed: {_words(error)}"})
        output.execute_finalize()
        return answer


def load(options: Options, folder: Path, scratch: Path, report: Callable[[str], None]) -> Script:
    """Import the script, fetch its weights and make the empty first call; raises LoadError."""
    entry = folder / (options.entry_point or "model.py")
    if not entry.resolve().is_relative_to(folder) or entry.suffix != ".py":
        raise LoadError(f"option.entryPoint must be a .py file in the folder: got {options.entry_point!r}")
    if not entry.is_file():
        raise LoadError(f"there is no {entry.name} in {folder}: add it, or set option.entryPoint to the script's file")
    packages = satisfy(folder / "requirements.txt", options.install_requirements, scratch, report)
    properties = _properties(options, folder)
    if options.model_id is not None and options.model_id.startswith("s3://"):
        properties["model_id"] = str(fetch(options.model_id, scratch, report))
    report(f"importing {entry.name}")
    sys.path[:0] = [str(path) for path in (folder, packages, COMPAT) if path is not None]
    os.chdir(folder)  # as in LMI: scripts open files beside them
    handle = getattr(_import(entry), options.handler, None)
    if not callable(handle):
        raise LoadError(f"{entry.name} has no function {options.handler!r}: define it, or set option.handler")
    report("the script's empty first call")
    script = Script(handle, properties)
    script.warm_up()
    return script


def _properties(options: Options, folder: Path) -> dict[str, Any]:
    """What LMI tells a handler on each call, beside the request's headers."""
    return dict(options.properties) | {
        "engine": "Python",
        "handler": options.handler,
        "model_dir": str(folder),
        "device_id": "-1",
        "tensor_parallel_degree": options.tensor_parallel_degree,
    }


def _attributes(headers: dict[str, str]) -> dict[str, Any]:
    """The request's headers, and SageMaker's custom attributes `k=v;k2=v2` one by one; options win over both."""
    pairs = (each.partition("=") for each in headers.get("x-amzn-sagemaker-custom-attributes", "").split(";"))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals} | headers


def _import(entry: Path) -> ModuleType:
    """The script as a module of its file's name, so that what it pickles can be found again."""
    if entry.stem in sys.modules or entry.stem in sys.stdlib_module_names or not entry.stem.isidentifier():
        raise LoadError(f"{entry.name} has the name of another module: rename it, and set option.entryPoint")
    spec = importlib.util.spec_from_file_location(entry.stem, entry)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[entry.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        traceback.print_exc()
        raise LoadError(f"{entry.name} cannot be imported: {_words(error)}") from error
    return module


def _output(given: Any) -> Output:
    """What a handler may return: an Output, None, JSON, text or bytes."""
    if isinstance(given, Output):
        return given
    if given is None:
        return Output(204, "No content")
    if isinstance(given, dict | list):
        return Output().add_property("content-type", "application/json").add_as_json(given)
    if isinstance(given, str):
        return Output().add_property("content-type", "text/plain; charset=utf-8").add(given)
    if isinstance(given, bytes | bytearray):
        return Output().add_property("content-type", "application/octet-stream").add(given)
    raise TypeError(f"handle() must return an Output, a dict, a list, a str, bytes or None: got {type(given).__name__}")


def _code(output: Output) -> int:
    if type(output.code) is not int or not 200 <= output.code <= 599:
        raise ValueError(f"an Output's code must be from 200 to 599: got {output.code!r}")
    return output.code


def _headers(output: Output) -> dict[str, str]:
    headers = {str(name): str(value) for name, value in output.properties.items() if name.lower() not in _UNSENT}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"a property of an Output is no HTTP header: {name!r}: {value!r}")
    return headers


def _words(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
