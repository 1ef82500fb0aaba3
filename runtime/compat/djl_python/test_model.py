"""A user's own test of a model.py, without a server: make requests, call the handler, read the reply.

Not pytest's: its functions have LMI's names. `python -m djl_python.test_model --model-dir . --input question.json`
calls the handler empty, then with the files, and prints the reply.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from djl_python.inputs import Input
from djl_python.outputs import Output, to_json
from djl_python.service_loader import ModelService, load_model_service

__test__ = False  # pytest would take TestHandler for a test


def create_request(input_files: Sequence[str], parameters: Sequence[str] | None = None) -> Input:
    """Each file, or text where there is no such file, as content, `key=…` under its key; `key=value` properties."""
    request = Input({"device_id": "-1"})
    for each in input_files:
        key, _, place = each.partition("=")
        named = key.isidentifier() and key != each
        place = place if named else each
        file, is_file = Path(place), os.path.isfile(place)  # which a text may be too long for: Path would raise
        data = file.read_bytes() if is_file else place.encode()
        usual = "application/json" if place.startswith("{") and place.endswith("}") else "text/plain"
        kind = _KINDS.get(file.suffix.lower(), "application/octet-stream") if is_file else usual
        if key == "data" or request.content.is_empty():
            request.properties["content-type"] = kind
        request.content.add(key if named else "data" if request.content.is_empty() else file.name, data)
    for each in parameters or ():
        name, given, value = each.partition("=")
        if not given:
            raise ValueError(f"a parameter must be key=value: got {each!r}")
        request.properties[name] = value
    return request


def create_text_request(text: str, key: str | None = None) -> Input:
    """Text as a request."""
    return _request(text.encode(), "text/plain", key)


def create_json_request(value: Any, key: str | None = None) -> Input:
    """JSON as a request."""
    return _request(to_json(value), "application/json", key)


def create_numpy_request(list: Sequence[Any], key: str | None = None) -> Input:
    """Arrays as a request: an NDList."""
    from djl_python.np_util import to_nd_list

    return _request(to_nd_list(list), "tensor/ndlist", key)


def create_npz_request(list: Sequence[Any], key: str | None = None) -> Input:
    """Arrays as a request: an npz file."""
    from djl_python.np_util import to_npz

    return _request(to_npz(list), "tensor/npz", key)


def create_image_request(image: Any, key: str | None = None) -> Input:
    """An image file, or a PIL image, as a request."""
    if isinstance(image, str | Path):
        return _request(Path(image).read_bytes(), "image/jpeg", key)
    file = io.BytesIO()
    image.save(file, "PNG")
    return _request(file.getvalue(), "image/png", key)


def create_concurrent_batch_request(
    inputs: Sequence[Input | Mapping[str, Any]],
    properties: Sequence[Mapping[str, Any]] | None = None,
    serving_properties: Mapping[str, Any] | None = None,
) -> Input:
    """Several requests, or what is their JSON, in one, as the server makes them where `batch_size` is more than 1;
    `properties`: the headers of each."""
    requests = [each if isinstance(each, Input) else create_json_request(dict(each)) for each in inputs]
    batch = Input(serving_properties)
    batch.properties["batch_size"] = str(len(requests))
    for number, request in enumerate(requests):
        own = {**request.properties, **(properties[number] if properties else {})}
        for name, value in own.items():
            batch.properties[f"batch_{number}.{name}"] = value
        for key, value in request.content:
            batch.content.add(f"batch_{number}.{key or 'data'}", value)
    return batch


def extract_output_as_input(outputs: Output) -> Input:
    """A reply as a request, which reads in more ways."""
    request = Input(outputs.properties)
    request.content = outputs.content
    return request


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


def load_properties(properties_dir: str | None) -> dict[str, str]:
    """serving.properties of a folder, `option.` taken off."""
    file = Path(properties_dir or "", "serving.properties")
    lines = file.read_text("utf-8").splitlines() if properties_dir is not None and file.is_file() else []
    pairs = (line.partition("=") for line in lines if line.strip() and not line.lstrip().startswith(("#", "!")))
    return {key.strip().removeprefix("option."): value.strip() for key, _, value in pairs}


class TestHandler:
    """A handler to be called as the server would: `TestHandler(module).inference(request)`."""

    __test__ = False

    def __init__(self, entry_point: Any, model_dir: str | None = None) -> None:
        """`entry_point`: a module, or the name of a file in `model_dir`, which is then the folder to work in."""
        folder = str(Path.cwd() if model_dir is None else Path(model_dir).resolve())
        if isinstance(entry_point, str):
            os.chdir(folder)
            sys.path.append(folder)
            self.service = load_model_service(folder, entry_point)
        else:
            self.service = ModelService(entry_point, folder)
        told = {name.removeprefix("OPTION_"): value for name, value in os.environ.items() if name.startswith("OPTION_")}
        given = {"entryPoint" if name == "ENTRYPOINT" else name.lower(): value for name, value in told.items()}
        self.serving_properties = given | load_properties(folder) | {"model_dir": folder}

    def inference(self, inputs: Input, function_name: str | None = None) -> Any:
        """One request's reply."""
        usual = {name: value for name, value in self.serving_properties.items() if name != "batch_size"}
        inputs.properties = Input(usual | inputs.properties).properties
        return self.service.invoke_handler(function_name or inputs.get_function_name() or "handle", inputs)

    def inference_batch(
        self,
        inputs: Sequence[Input | Mapping[str, Any]],
        properties: Sequence[Mapping[str, Any]] | None = None,
        serving_properties: Mapping[str, Any] | None = None,
    ) -> Any:
        """The reply of several requests in one call."""
        given = self.serving_properties if serving_properties is None else serving_properties
        return self.inference(create_concurrent_batch_request(inputs, properties, given))

    def inference_rolling_batch(
        self,
        inputs: Sequence[Input | Mapping[str, Any]],
        properties: Sequence[Mapping[str, Any]] | None = None,
        serving_properties: Mapping[str, Any] | None = None,
    ) -> dict[int, str]:
        """The whole text of each request's answer, by its place; here one call makes them all."""
        output = self.inference_batch(inputs, properties, serving_properties)
        return {place: bytes(value).decode() for place, value in enumerate(output.content.get_values())}


def run(arguments: Sequence[str] | None = None) -> int:
    """The command: the exit code is 1 where the handler answers with 300 or more."""
    parser = argparse.ArgumentParser(prog="djl-test-model", description="Call a model.py as the server would.")
    parser.add_argument("--model-dir", default=".", help="the folder with model.py")
    parser.add_argument("--entry-point", default="model.py")
    parser.add_argument("--handler", default="handle", help="the function that answers")
    parser.add_argument("--input", nargs="*", default=[], help="files, texts, key=file; the first is the body")
    parser.add_argument("--parameters", nargs="*", default=[], help="properties as key=value")
    given = parser.parse_args(arguments)
    request = create_request(given.input, given.parameters)
    handler = TestHandler(given.entry_point, given.model_dir)
    handler.inference(Input({"device_id": "-1"}), given.handler)
    output = handler.inference(request, given.handler)
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
    ".gif": "image/gif",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
}

if __name__ == "__main__":
    raise SystemExit(run())
