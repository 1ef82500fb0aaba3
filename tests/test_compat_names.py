"""The names that scripts use of djl_python: its modules, its functions, and their parameters, which are called by name.

Facts of deepjavalibrary/djl-serving's engines/python/setup/djl_python, v0.23 to v0.36. Ours may have parameters more.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from djl_python import Output
from djl_python.async_utils import create_non_stream_output, create_stream_chunk_output, handle_streaming_response
from djl_python.custom_formatter_handling import CustomFormatterError, CustomFormatterHandler, load_custom_code
from djl_python.service_loader import get_annotated_function
from djl_python.utils import IdCounter, find_model_file, get_sagemaker_function, wait_till_generation_finished

PARAMETERS = """
    inputs.Input.get_property(key)
    inputs.Input.contains_key(key)
    inputs.Input.get_data(key=None)
    inputs.Input.get_as_bytes(key=None)
    inputs.Input.get_as_string(key=None)
    inputs.Input.get_as_json(key=None)
    inputs.Input.get_as_image(key=None)
    inputs.Input.get_as_numpy(key=None)
    inputs.Input.get_as_npz(key=None)
    inputs.Input.get_as_csv(key=None)
    outputs.Output(code=200, message="OK")
    outputs.Output.set_code(code)
    outputs.Output.set_message(message)
    outputs.Output.error(error, code=424)
    outputs.Output.add_property(key, val)
    outputs.Output.add(value, key=None, batch_index=None)
    outputs.Output.add_as_numpy(np_list, key=None, batch_index=None)
    outputs.Output.add_as_npz(np_list, key=None, batch_index=None)
    outputs.Output.add_as_json(val, key=None, batch_index=None)
    outputs.Output.add_stream_content(stream_content, output_formatter)
    pair_list.PairList(keys=None, values=None, pair_list=None, pair_map=None)
    pair_list.PairList.add(key=None, value=None, index=None, pair=None)
    pair_list.PairList.add_all(other)
    pair_list.PairList.get(key)
    pair_list.PairList.key_at(index)
    pair_list.PairList.value_at(index)
    encode_decode.decode(inputs, content_type, key=None, require_csv_headers=True)
    encode_decode.encode(outputs, prediction, content_type, key=None)
    encode_decode.decode_csv(inputs, require_headers=True)
    encode_decode.encode_csv(content)
    np_util.to_nd_list(np_list)
    np_util.from_nd_list(encoded)
    input_parser.input_formatter(function)
    output_formatter.output_formatter(function)
    service_loader.ModelService(module, model_dir)
    service_loader.ModelService.invoke_handler(function_name, inputs)
    service_loader.load_model_service(model_dir, entry_point, device_id)
    service_loader.has_function_in_module(module, function_name)
    service_loader.find_decorated_function(module, decorator_attribute)
    service_loader.get_annotated_function(model_dir, decorator_attribute, namespace=None)
    request_io.Token(id, text, log_prob=None, special_token=None, error_msg=None)
    request_io.Sequence(tokens, top_tokens, cumulative_log_prob=0.0, finish_reason=None, _last_token_index=None)
    request_io.Sequence.set_next_token(token, is_last_token=False)
    request_io.Sequence.set_next_top_tokens(top_tokens)
    request_io.RequestInput(request_id, output_formatter=None, parameters, server_parameters, tgi_compat=False)
    request_io.RequestOutput(request_id, input, finished=False)
    request_io.TextGenerationOutput.set_next_token(token, sequence_index=0, is_last_token=False, finish_reason=None)
    request_io.TextGenerationOutput.set_next_top_tokens(top_tokens, sequence_index)
    request_io.TextGenerationOutput.set_best_sequence_index(sequence_index)
    request_io.TextGenerationOutput.set_finish_reason(finish_reason, sequence_index=0)
    request_io.TextGenerationOutput.get_tokens_as_dict(sequence_index=0)
    request_io.TextGenerationOutput.get_top_tokens_as_dict(sequence_index=0)
    session_manager.Session(session_id, session_root, expiration_ts=None)
    session_manager.Session.put(key, value)
    session_manager.Session.get(key, d=None)
    session_manager.Session.get_as_numpy(key, shape, dtype, create=False)
    session_manager.SessionManager(properties)
    session_manager.SessionManager.get_session(session_id)
    session_manager.SessionManager.close_session(session_id)
    streaming_utils.HFStreamer(tokenizer)
    streaming_utils.StreamingUtils.get_stream_generator(execution_engine)
    streaming_utils.StreamingUtils.use_hf_default_streamer(model, tokenizer, inputs, device)
    async_utils.create_non_stream_output(data, properties=None, error=None, code=None)
    async_utils.create_stream_chunk_output(data, last_chunk, error=None, code=None)
    async_utils.handle_streaming_response(response, stream_output_formatter, accumulate_chunks=False)
    utils.find_model_file(model_dir, extensions)
    utils.get_sagemaker_function(model_dir, func_name)
    utils.is_best_of(parameters)
    custom_formatter_handling.CustomFormatterError(message, original_exception)
    custom_formatter_handling.CustomFormatterHandler.load_formatters(model_dir, namespace=None)
    custom_formatter_handling.CustomFormatterHandler.apply_input_formatter(decoded_payload)
    custom_formatter_handling.CustomFormatterHandler.apply_output_formatter(output)
    custom_formatter_handling.CustomFormatterHandler.apply_init_handler(model_dir)
    custom_formatter_handling.CustomFormatterHandler.apply_prediction_handler(X, model)
    custom_formatter_handling.load_custom_code(model_dir)
    test_model.create_request(input_files, parameters)
    test_model.create_text_request(text, key=None)
    test_model.create_numpy_request(list, key=None)
    test_model.create_npz_request(list, key=None)
    test_model.create_concurrent_batch_request(inputs, properties=None, serving_properties)
    test_model.extract_output_as_input(outputs)
    test_model.extract_output_as_bytes(outputs, key=None)
    test_model.extract_output_as_numpy(outputs, key=None)
    test_model.extract_output_as_npz(outputs, key=None)
    test_model.extract_output_as_string(outputs, key=None)
    test_model.load_properties(properties_dir)
    test_model.TestHandler(entry_point, model_dir=None)
    test_model.TestHandler.inference(inputs)
    test_model.TestHandler.inference_batch(inputs, properties=None, serving_properties=None)
"""
SAGEMAKER = """
def model_fn(model_dir):
    return 10

def input_fn(request_body, content_type):
    return int(request_body)

def predict_fn(input_data, model):
    return input_data * model

def output_fn(predictions, accept):
    return predictions
"""
DECORATED = """
from djl_python.input_parser import init_handler, input_formatter, prediction_handler

@init_handler
def load(model_dir, **kwargs):
    return 10

@input_formatter
def read(payload, **kwargs):
    return payload["n"] + kwargs.get("more", 0)

@prediction_handler
def predict(X, model, **kwargs):
    return X * model
"""


@pytest.mark.parametrize("line", PARAMETERS.split("\n")[1:-1])
def test_parameters_have_lmis_names_order_and_defaults(line: str) -> None:
    name, _, wanted = line.strip().rstrip(")").partition("(")
    module, *path = name.split(".")
    found: Any = importlib.import_module(f"djl_python.{module}")
    for each in path:
        found = getattr(found, each)

    own = [each for each in inspect.signature(found).parameters.values() if each.name != "self"]

    for parameter, text in zip(own, wanted.split(", "), strict=False):
        name, given, default = text.partition("=")
        assert (parameter.kind, parameter.name) == (parameter.POSITIONAL_OR_KEYWORD, name)
        assert not given or parameter.default == ast.literal_eval(default)
    assert len(own) >= len(wanted.split(", "))


def test_an_output_is_filled_by_the_names_of_its_parameters() -> None:
    output = Output(code=201, message="made").add_property(key="Content-Type", val="text/plain")
    output.add_as_json(val={"a": 1}, key="json").add_as_numpy(np_list=[np.arange(2)], key="numpy")
    output.add_as_npz(np_list=[np.arange(2)], key="npz").add(value="x", key="x", batch_index=None)
    output.add_stream_content(stream_content=iter([1]), output_formatter=Output._default_stream_output_formatter)

    assert (output.get_property("content-type"), output.content.keys) == ("text/plain", ["json", "numpy", "npz", "x"])
    assert output.chunk(1) == b'{"outputs": 1}\n'


def test_answers_of_asynchronous_handlers_are_outputs_of_one_frame() -> None:
    whole = create_non_stream_output({"a": "é"}, properties={"X-Tea": "green"})
    last = create_stream_chunk_output("b", last_chunk=True)
    wrong = create_non_stream_output("", error="no tea", code=503)

    assert (whole.content.values, whole.get_property("content-type")) == (['{"a": "é"}\n'.encode()], "application/json")
    assert whole.get_property("x-tea") == "green"
    assert (last.content.values, last.get_property("content-type")) == ([b"b\n"], "application/jsonlines")
    assert (wrong.code, wrong.content.value_at(0).failure) == (503, (503, "no tea"))


def test_a_stream_is_what_the_formatter_makes_of_each_piece_until_the_last() -> None:
    async def pieces() -> AsyncIterator[str]:
        for each in ("a", "b", "c"):
            yield each

    def plain(piece: str, end: str) -> tuple[str, bool]:
        return piece.upper(), piece == end

    def counted(piece: str, history: list[str], end: str) -> tuple[str, bool, list[str]]:
        if piece == end:
            raise ValueError("no tea")
        return "".join([*history, piece]), False, [*history, piece]

    async def of(formatter: Any, **more: Any) -> list[bytes]:
        return [each.content.value_at(0) async for each in handle_streaming_response(pieces(), formatter, **more)]

    assert asyncio.run(of(plain, end="b")) == [b"A\n", b"B\n"]
    *sound, failed = asyncio.run(of(counted, accumulate_chunks=True, end="c"))
    assert (sound, failed.failure) == ([b"a\n", b"ab\n"], (424, "no tea"))  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delitem(sys.modules, "model", raising=False)
    return tmp_path


def test_sagemakers_functions_of_a_folder_are_found_by_their_parameters(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert get_sagemaker_function(str(folder), "model_fn") is None
    (folder / "model.py").write_text(SAGEMAKER)

    code = load_custom_code(str(folder))
    predict_fn = get_sagemaker_function(model_dir=str(folder), func_name="predict_fn")

    assert predict_fn is not None and predict_fn is code.handlers.prediction_handler
    assert code.is_sagemaker_script and predict_fn(4, 10) == 40
    assert code.formatters.output_formatter is None
    assert "output_fn(predictions, accept) of model.py is left out" in caplog.text


def test_decorated_functions_of_a_folder_are_applied_and_their_failures_named(folder: Path) -> None:
    (folder / "model.py").write_text(DECORATED)
    handler = CustomFormatterHandler()
    handler.load_formatters(model_dir=str(folder))

    model = handler.apply_init_handler(str(folder))
    payload = handler.apply_input_formatter({"n": 3}, more=1)

    assert handler.apply_prediction_handler(X=payload, model=model) == 40
    assert handler.apply_output_formatter("as it is") == "as it is"
    assert not handler.is_sagemaker_script
    with pytest.raises(CustomFormatterError, match=r"read of model.py failed: KeyError: 'n'") as fault:
        handler.apply_input_formatter({})
    assert isinstance(fault.value.original_exception, KeyError)
    assert get_annotated_function(str(folder), "is_output_formatter") is None


def test_code_of_a_folder_that_cannot_be_imported_is_told(folder: Path) -> None:
    (folder / "model.py").write_text("import no_such_tea")

    with pytest.raises(CustomFormatterError, match="cannot be loaded: No module named 'no_such_tea'"):
        load_custom_code(str(folder))


def test_a_models_file_is_the_only_one_with_its_endings(tmp_path: Path) -> None:
    assert find_model_file(str(tmp_path), ["json"]) is None
    (tmp_path / "model.json").write_text("{}")
    assert find_model_file(model_dir=str(tmp_path), extensions=["json", "ubj"]) == str(tmp_path / "model.json")
    (tmp_path / "model.ubj").write_text("")
    with pytest.raises(ValueError, match=r"must have one file that ends in json, ubj: got .*model.json, .*model.ubj"):
        find_model_file(str(tmp_path), ["json", "ubj"])


def test_libraries_that_are_not_installed_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "joblib", raising=False)
    (tmp_path / "joblib.py").write_text("word = 'tea'")
    monkeypatch.syspath_prepend(tmp_path)
    found = importlib.import_module("djl_python.import_utils")

    assert found.is_joblib_available() and found.joblib.word == "tea"
    assert found.is_cloudpickle_available() is (found.cloudpickle is not None)
    with pytest.raises(AttributeError, match="no attribute 'tea'"):
        found.tea  # noqa: B018  to ask for it is the test


def test_wishes_are_read_and_numbers_counted() -> None:
    counter = IdCounter()
    numbers = [counter.next_id(), counter.next_id(), counter.get_id()]
    counter.reset()

    assert (numbers, counter.get_id()) == ([0, 1, 2], 0)
    wishes: list[dict[str, Any]] = [{}, {"n": 1}, {"n": 2}, {"best_of": 2}, {"num_beams": 4}]
    assert [wait_till_generation_finished(each) for each in wishes] == [False, False, True, True, True]
    assert json.loads(create_non_stream_output({"n": np.int64(1)}).content.value_at(0)) == {"n": 1}
