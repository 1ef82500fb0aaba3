"""The handler of a TorchServe archive as a script's: `initialize(context)`, `handle(data, context)`.

Its MAR-INF/MANIFEST.json names the file. Not TorchServe's own handlers (`ts.torch_handler`), which need that package.
Source: pytorch/serve, its documentation of custom services; LMI runs such an archive as it is.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from djl_python.inputs import Input
from djl_python.outputs import Output

MANIFEST = Path("MAR-INF", "MANIFEST.json")


class Context:
    """What a handler is told, and what it says of its replies, each by the request's place in the batch."""

    def __init__(self, manifest: Mapping[str, Any], properties: Mapping[str, Any]) -> None:
        device = int(properties.get("device_id", -1))
        self.manifest = manifest
        self.model_name = manifest.get("model", {}).get("modelName", "model")
        self.system_properties = {
            "model_dir": properties["model_dir"],
            "gpu_id": None if device < 0 else device,
            "batch_size": int(properties.get("batch_size", 1)),
            "server_name": "heavylift",
        }
        self.requests: list[Input] = []
        self.types: dict[int, str] = {}
        self.status = 200

    def get_request_id(self, idx: int = 0) -> str:
        """SageMaker's inference id; else a number."""
        return str(self.get_request_header(idx, "x-amzn-sagemaker-inference-id") or idx)

    def get_request_header(self, idx: int, key: str) -> Any:
        """A header, or None."""
        return self.requests[idx].get_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, Any]:
        """All of them, and the options."""
        return self.requests[idx].get_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        """The Content-Type of a reply."""
        self.types[idx] = value

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """The status of the replies."""
        self.status = code


def torchserve_handler(module: ModuleType, model_dir: str) -> Callable[[Input], Output | None]:
    """The archive's handler; AttributeError, with a sentence, where the module has none."""
    manifest = json.loads(Path(model_dir, MANIFEST).read_text("utf-8"))
    _, _, name = str(manifest.get("model", {}).get("handler", "")).partition(":")
    made = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    services: list[Any] = [each for each in made if callable(getattr(each, "handle", None))]
    function = getattr(module, name or "handle", None)
    if not callable(function) and len(services) != 1:
        raise AttributeError(f"{MANIFEST}: the handler must be a function handle(data, context), or one class with it")
    service = None if callable(function) else services[0]()
    call: Any = function if service is None else service.handle
    held: list[Context] = []

    def handle(inputs: Input) -> Output | None:
        if inputs.is_empty():
            held[:] = [Context(manifest, {"model_dir": model_dir, **inputs.get_properties()})]
            if service is not None and hasattr(service, "initialize"):
                service.initialize(held[0])
            elif service is None:
                call(None, held[0])  # TorchServe's own way to let a function load
            return None
        context = held[0]
        context.requests, context.types, context.status = inputs.get_batches(), {}, 200
        replies = call([_row(each) for each in context.requests], context)
        return _output(replies, context)

    return handle


def _row(request: Input) -> dict[str, Any]:
    """The body under `body`, read where it is JSON; the fields of a form under their names."""
    kind = str(request.get_property("content-type") or "")
    if kind.startswith(("multipart/", "application/x-www-form")):
        return {key or "body": value for key, value in request.content if key != "data"}
    return {"body": request.get_as_json() if kind.startswith("application/json") else request.get_as_bytes()}


def _output(replies: Any, context: Context) -> Output:
    count = len(context.requests)
    if not isinstance(replies, list) or len(replies) != count:
        raise ValueError(f"handle(data, context) must return a list of {count}, one for each request")
    output = Output(context.status)
    plain = all(isinstance(reply, str | bytes | bytearray) for reply in replies)
    usual = "text/plain; charset=utf-8" if plain else "application/json"
    output.add_property("content-type", context.types.get(0, usual))
    if count > 1 and context.status < 300:
        for number in range(count):
            output.add_property(f"batch_{number}_Content-Type", context.types.get(number, usual))
    for number, reply in enumerate(replies):
        output.add(reply, "data" if count == 1 else None, None if count == 1 else number)
    return output
