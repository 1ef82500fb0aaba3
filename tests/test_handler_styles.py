"""Other ways to write a handler: decorators, SageMaker's functions; and how a user tests one. Not what it answers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from djl_python import Input
from djl_python.input_parser import init_handler, input_formatter, prediction_handler
from djl_python.output_formatter import output_formatter
from djl_python.service_loader import ModelService
from djl_python.test_model import (
    TestHandler,
    create_json_request,
    create_request,
    extract_output_as_bytes,
    extract_output_as_input,
)
from heavylift_runtime.engines import script
from heavylift_runtime.engines.handler import Handler
from heavylift_runtime.engines.script import COMPAT
from heavylift_runtime.options import Options
from tests.test_handler import call, module

BATCHED = """
from djl_python import Input, Output

def handle(inputs):
    if inputs.is_empty():
        return None
    outputs = Output()
    for index, each in enumerate(inputs.get_batches()):
        outputs.add({"twice": 2 * each.get_as_json()["n"]}, batch_index=index)
    return outputs
"""


def test_decorated_functions_are_called_in_their_order() -> None:
    loaded = []

    @init_handler
    def load(properties: dict[str, Any]) -> None:
        loaded.append(properties["model_id"])

    @input_formatter
    def read(inputs: Input) -> int:
        return int(inputs.get_as_json()["n"])

    @prediction_handler
    def predict(number: int) -> int:
        return 2 * number

    @output_formatter
    def write(number: int) -> dict[str, int]:
        return {"twice": number}

    script = module(a=write, b=predict, c=read, d=load)
    handler = Handler(ModelService(script, ".").handler("handle"), {"model_id": "m"})
    handler.warm_up()
    (answer,) = handler.answer([call(b'{"n": 21}')])

    assert loaded == ["m"]
    assert answer.body == b'{"twice": 42}'


def test_decorated_functions_take_what_lmi_gives_them() -> None:
    @init_handler
    def custom_init(model_dir: str, **kwargs: Any) -> tuple[str, str]:
        return model_dir, kwargs["properties"]["model_id"]

    @input_formatter
    def custom_input(inputs: Input, **kwargs: Any) -> int:
        return int(inputs.get_as_json()["n"])

    @prediction_handler
    def custom_predict(number: int, model: tuple[str, str], **kwargs: Any) -> list[Any]:
        return [number, *model]

    script = module(a=custom_input, b=custom_predict, c=custom_init)
    handler = Handler(ModelService(script, "/models").handler("handle"), {"model_id": "m"})
    handler.warm_up()

    assert handler.answer([call(b'{"n": 21}')])[0].body == b'[21, "/models", "m"]'


def test_sagemakers_functions_are_a_handler() -> None:
    script = module(
        model_fn=lambda model_dir: 10,
        input_fn=lambda body, content_type: int(body),
        predict_fn=lambda number, model: number * model,
        output_fn=lambda number, accept: (f"{number} ({accept})", "text/plain"),
    )

    handler = Handler(ModelService(script, "/models").handler("handle"), {})
    handler.warm_up()
    (answer,) = handler.answer([call(b"4", accept="text/plain")])

    assert (answer.body, answer.headers) == (b"40 (text/plain)", {"content-type": "text/plain"})


def test_sagemakers_predict_fn_alone_takes_and_gives_json() -> None:
    handler = Handler(ModelService(module(predict_fn=lambda data, model: [model, data]), ".").handler("handle"), {})
    handler.warm_up()

    assert handler.answer([call(b'{"a": 1}')])[0].body == b'[null, {"a": 1}]'


def test_sagemakers_transform_fn_does_it_all_and_stands_alone() -> None:
    def transform_fn(model: int, body: bytes, content_type: str, accept: str) -> tuple[str, str]:
        return f"{model} {body!r} {content_type}", accept

    script = module(model_fn=lambda model_dir: 10, transform_fn=transform_fn)
    handler = Handler(ModelService(script, ".").handler("handle"), {"default_accept": "text/csv"})
    handler.warm_up()
    (answer,) = handler.answer([call(b"4", accept="*/*")])

    assert (answer.body, answer.headers) == (b"10 b'4' application/json", {"content-type": "text/csv"})
    script.__dict__["predict_fn"] = lambda data, model: data
    with pytest.raises(AttributeError, match="transform_fn stands alone: remove it, or predict_fn"):
        ModelService(script, ".").handler("handle")


def test_a_function_of_sagemakers_with_other_arguments_is_refused() -> None:
    with pytest.raises(AttributeError, match="predict_fn must take 2 arguments: it takes 1"):
        ModelService(module(predict_fn=lambda data: data), ".").handler("handle")


@pytest.mark.parametrize(
    ("environ", "mpi", "given"),
    [
        ({}, False, "-1"),
        ({}, True, "-1"),
        ({"HEAVYLIFT_DEVICE": "2"}, False, "2"),
        ({"HEAVYLIFT_DEVICE": "0"}, True, "3"),
    ],
)
def test_a_script_is_told_its_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environ: dict[str, str], mpi: bool, given: str
) -> None:
    for name, value in {"LOCAL_RANK": "3", **environ}.items():
        monkeypatch.setenv(name, value)

    assert script._properties(Options(engine="script", mpi_mode=mpi), tmp_path)["device_id"] == given


def test_a_script_is_told_its_degree_as_lmi_does_a_number_under_mpi_else_the_text_that_was_written(
    tmp_path: Path,
) -> None:
    written = Options(engine="script", tensor_parallel_degree=2, properties={"tensor_parallel_degree": "2"})

    assert script._properties(written, tmp_path)["tensor_parallel_degree"] == "2"
    assert script._properties(replace(written, mpi_mode=True), tmp_path)["tensor_parallel_degree"] == 2
    assert "tensor_parallel_degree" not in script._properties(Options(engine="script"), tmp_path)


def test_a_users_test_calls_a_handler_as_the_server_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # and back: TestHandler works in the model's folder
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("OPTION_DTYPE", "fp16")
    (tmp_path / "batched_model.py").write_text(BATCHED)
    (tmp_path / "serving.properties").write_text("engine=Python\noption.model_id=m\nbatch_size=2\n")

    handler = TestHandler("batched_model.py", str(tmp_path))
    alone = handler.inference(create_json_request({"n": 3}))
    together = handler.inference_batch([{"n": 1}, create_json_request({"n": 2})], [{"k": "a"}, {"k": "b"}])
    rolled = handler.inference_rolling_batch([{"n": 1}, {"n": 2}])

    assert handler.serving_properties.items() >= {"model_id": "m", "dtype": "fp16", "model_dir": str(tmp_path)}.items()
    assert extract_output_as_bytes(alone) == b'{"twice": 6}'
    assert list(together.content) == [("batch_0.", b'{"twice": 2}'), ("batch_1.", b'{"twice": 4}')]
    assert extract_output_as_input(together).get_as_json("batch_1.") == {"twice": 4}
    assert rolled == {0: '{"twice": 2}', 1: '{"twice": 4}'}


def test_a_users_request_is_made_of_files_texts_and_properties(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"PNG")

    body = create_request(['{"a": 1}', f"mask={tmp_path / 'picture.png'}"], ["device_id=0", "k=v=w"])
    picture = create_request([str(tmp_path / "picture.png")])
    picture.function_name = "predict"

    assert (body.get_data(), body.get_as_bytes("mask")) == ({"a": 1}, b"PNG")
    assert body.get_properties() == {"device_id": "0", "content-type": "application/json", "k": "v=w"}
    assert (picture.get_property("content-type"), picture.get_function_name()) == ("image/png", "predict")
    with pytest.raises(ValueError, match="a parameter must be key=value: got 'k'"):
        create_request([], ["k"])


@pytest.mark.slow
def test_the_command_for_a_users_test_prints_the_reply(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(BATCHED)
    (tmp_path / "question.json").write_text('{"n": 4}')
    command = [sys.executable, "-m", "djl_python.test_model", "--model-dir", str(tmp_path), "--input", "question.json"]
    environ = os.environ | {"PYTHONPATH": str(COMPAT)}

    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)

    assert done.stdout == '{"twice": 8}'
