"""A user's own test of a model.py, without a server: make requests, call the handler, read the reply.

Not pytest's: its functions have LMI's names. `python -m djl_python.test_model --model-dir . --input question.json`
calls the handler empty, then with the files, and prints the reply.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from djl_python.inputs import Input
from djl_python.outputs import Output, to_json
from djl_python.service_loader import ModelService, load_model_service

__test__ = False  # pytest would take TestHandler for a test


def create_request(
    input_files: Sequence[str] = (), parameters: Sequence[str] = (), properties: Mapping[str, Any] | None = None
) -> Input:
    """Files and `key=value` parameters as one request."""
    request = Input(properties)
    for number, file in enumerate(map(Path, input_files)):
        request.content.add("data" if number == 0 else file.name, file.read_bytes())
        request.properties.setdefault("content-type", _KINDS.get(file.suffix, "application/octet-stream"))
    for each in parameters:
        name, _, value = each.partition("=")
        request.content.add(name, value.encode())
    return request


def create_text_request(text: str, key: str | None = None) -> Input:
    """Text as a request."""
    return _request(text.encode(), "text/plain", key)


def create_json_request(value: Any, key: str | None = None) -> Input:
    """JSON as a request."""
    return _request(to_json(value), "application/json", key)


def create_numpy_request(arrays: Sequence[Any], key: str | None = None) -> Input:
    """Arrays as a request: an NDList."""
    from djl_python.np_util import to_nd_list

    return _request(to_nd_list(arrays), "tensor/ndlist", key)


def create_npz_request(arrays: Sequence[Any], key: str | None = None) -> Input:
    """Arrays as a request: an npz file."""
    from djl_python.np_util import to_npz

    return _request(to_npz(arrays), "tensor/npz", key)


def create_image_request(image: Any, key: str | None = None) -> Input:
    """An image file, or a PIL image, as a request."""
    if isinstance(image, str | Path):
        return _request(Path(image).read_bytes(), "image/jpeg", key)
    file = io.BytesIO()
    image.save(file, "PNG")
    return _request(file.getvalue(), "image/png", key)


def create_concurrent_batch_request(requests: Sequence[Input], properties: Mapping[str, Any] | None = None) -> Input:
    """Several requests in one, as the server makes them where `batch_size` is more than 1."""
    batch = Input(properties)
    batch.properties["batch_size"] = str(len(requests))
    for number, request in enumerate(requests):
        for name, value in request.properties.items():
            batch.properties[f"batch_{number}.{name}"] = value
            batch.properties.setdefault(name, value)
        for key, value in request.content:
            batch.content.add(f"batch_{number}.{key or 'data'}", value)
    return batch


def extract_output_as_bytes(outputs: Output, key: str | None = None) -> bytes:
    """A reply's content; KeyError where there is none under the key."""
    if key is None:
        return bytes(outputs.content.value_at(0))
    if key not in outputs.content.get_keys():
        raise KeyError(f"no content has the key {key!r}: there are {outputs.content.get_keys()}")
    return bytes(outputs.content.get(key))


def extract_output_as_string(outputs: Output, key: str | None = None) -> str:
    """The same as text."""
    return extract_output_as_bytes(outputs, key).decode()


def extract_output_as_numpy(outputs: Output, key: str | None = None) -> Any:
    """The same as the arrays of an NDList."""
    from djl_python.np_util import from_nd_list

    return from_nd_list(extract_output_as_bytes(outputs, key))


def extract_output_as_npz(outputs: Output, key: str | None = None) -> Any:
    """The same as the arrays of an npz file."""
    from djl_python.np_util import from_npz

    return from_npz(extract_output_as_bytes(outputs, key))


def load_properties(folder: str) -> dict[str, str]:
    """serving.properties of a folder as a handler sees it: `option.` is taken off, server keys are left out."""
    file = Path(folder, "serving.properties")
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    pairs = (line.partition("=") for line in lines if not line.lstrip().startswith(("#", "!")))
    return {key.strip().removeprefix("option."): value.strip() for key, _, value in pairs if key.startswith("option.")}


class TestHandler:
    """A handler to be called as the server would: `TestHandler(module).inference(request)`."""

    __test__ = False

    def __init__(self, entry_point: Any, model_dir: str | None = None) -> None:
        """`entry_point`: a module, or the name of a file in `model_dir`."""
        folder = str(Path.cwd()) if model_dir is None else model_dir
        if isinstance(entry_point, str):
            self.service = load_model_service(folder, entry_point)
        else:
            self.service = ModelService(entry_point, folder)
        self.serving_properties = load_properties(folder) | {"model_dir": folder}

    def inference(self, inputs: Input, function_name: str = "handle") -> Any:
        """One request's reply."""
        inputs.properties = self.serving_properties | inputs.properties
        return self.service.invoke_handler(function_name, inputs)

    def inference_batch(
        self, requests: Sequence[Input], serving_properties: Mapping[str, Any] | None = None
    ) -> list[tuple[str, bytes]]:
        """Several requests in one call: each one's key and content."""
        output = self.inference(create_concurrent_batch_request(requests, serving_properties))
        pairs = [(key or "", bytes(value)) for key, value in output.content]
        if len(pairs) != len(requests):
            raise ValueError(f"the handler answered {len(pairs)} of {len(requests)} requests")
        return pairs


def run(arguments: Sequence[str] | None = None) -> int:
    """The command: the exit code is 1 where the handler answers with 300 or more."""
    parser = argparse.ArgumentParser(prog="djl-test-model", description="Call a model.py as the server would.")
    parser.add_argument("--model-dir", default=".", help="the folder with model.py")
    parser.add_argument("--entry-point", default="model.py")
    parser.add_argument("--handler", default="handle", help="the function that answers")
    parser.add_argument("--input", nargs="*", default=[], help="files; the first one is the body")
    parser.add_argument("--parameters", nargs="*", default=[], help="further content as key=value")
    given = parser.parse_args(arguments)
    folder = str(Path(given.model_dir).resolve())
    sys.path.insert(0, folder)
    handler = TestHandler(given.entry_point, folder)
    handler.inference(Input(), given.handler)
    output = handler.inference(create_request(given.input, given.parameters), given.handler)
    if not isinstance(output, Output):
        print(output)
        return 0
    print(output, file=sys.stderr)
    stream: Iterable[Any] = () if output.stream_content is None else output.stream_content  # type: ignore[assignment]
    for data in (*output.content.get_values(), *map(output.chunk, stream)):
        sys.stdout.write(bytes(data).decode("utf-8", "replace"))
    return 0 if output.code < 300 else 1


def _request(data: bytes, kind: str, key: str | None) -> Input:
    request = Input({"content-type": kind})
    request.content.add("data" if key is None else key, data)
    return request


_KINDS = {
    ".json": "application/json",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".npz": "tensor/npz",
    ".ndlist": "tensor/ndlist",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}

if __name__ == "__main__":
    raise SystemExit(run())
