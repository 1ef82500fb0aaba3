"""model.py files that call djl_python by the names of its parameters, and import its smaller modules, over HTTP.

Written here in LMI's users' style, unmodified but for the model: a table of weights stands for it. What each name
does: test_compat_names.py.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from djl_python.np_util import from_nd_list, from_npz, to_nd_list
from tests.served import Served, serving, write_script

pytestmark = pytest.mark.slow

BY_NAME = """
import datetime
import os
import numpy as np
from djl_python import Input, Output, PairList
from djl_python.encode_decode import decode, encode
from djl_python.session_manager import SessionManager

sessions = None

def words(count):
    for number in range(count):
        yield f"word {number}"

def handle(inputs: Input) -> Output:
    global sessions
    if sessions is None:
        sessions = SessionManager(properties=inputs.get_properties())
    if inputs.is_empty():
        return None
    content_type = inputs.get_property(key="Content-Type")
    data = decode(inputs=inputs, content_type=content_type, key=None)["inputs"]
    if isinstance(data, list) and hasattr(data[0], "shape"):
        outputs = Output(code=200, message="OK")
        if "npz" in (inputs.get_property(key="Accept") or ""):
            outputs.add_as_npz(np_list=[2 * each for each in data], key="data")
            return outputs.add_property(key="Content-Type", val="tensor/npz")
        outputs.add_as_numpy(np_list=[2 * each for each in data], key="data")
        return outputs.add_property(key="Content-Type", val="tensor/ndlist")
    if isinstance(data, (bytes, bytearray)):
        pairs = PairList(keys=["size"], values=[len(data)])
        pairs.add(pair=("first", data[0]))
        told = dict(zip(pairs.keys, pairs.values))
        return encode(outputs=Output(), prediction=told, content_type="application/json", key="data")
    if data == "stream":
        outputs = Output().add_property(key="Content-Type", val="application/jsonlines")
        outputs.add_stream_content(stream_content=words(2))
        return outputs
    if data == "open":
        session = sessions.create_session()
        session.put(key="seen", value={1: ("one", b"1"), "at": datetime.datetime(2026, 1, 2, 3, 4, 5)})
        with open(os.path.join(session.files_path, "frame.bin"), "wb") as file:
            file.write(b"frame")
        outputs = Output().add_property(key="X-Amzn-SageMaker-Session-Id", val=session.session_id)
        return outputs.add_as_json(val={"opened": True}, key="data")
    session = sessions.get_session(session_id=inputs.get_property(key="X-Amzn-SageMaker-Session-Id"))
    if session is None:
        return Output().error(error="there is no session", code=404)
    seen = session.get(key="seen", d={})
    frame = open(os.path.join(session.files_path, "frame.bin"), "rb").read()
    if data == "close":
        session.remove()
    return Output().add_as_json(val={"one": seen[1][0], "raw": seen[1][1].decode(), "at": seen["at"],
                                     "frame": frame.decode()}, key="data")
"""

ASYNCHRONOUS = """
import asyncio
import logging
from djl_python import Input
from djl_python.async_utils import create_non_stream_output, handle_streaming_response
from djl_python.encode_decode import decode

class Service:
    def __init__(self):
        self.initialized = False

    async def generate(self, prompt):
        for word in prompt.split() + ["[DONE]"]:
            await asyncio.sleep(0)
            yield word

    @staticmethod
    def stream_output_formatter(chunk, history=None, **kwargs):
        history.append(chunk)
        if chunk == "boom":
            raise ValueError("the tea is cold")
        last = chunk == "[DONE]"
        return {"generated_text": kwargs["join"].join(history[:-1])} if last else {"token": chunk}, last, history

    async def inference(self, inputs: Input):
        raw_request = inputs.get_batches()[0]
        payload = decode(raw_request, raw_request.get_property("Content-Type"))
        try:
            prompt = payload.pop("inputs")
        except KeyError as e:
            return create_non_stream_output("", error=f"Invalid payload: {e}", code=400)
        if payload.get("stream"):
            return handle_streaming_response(self.generate(prompt), self.stream_output_formatter,
                                             accumulate_chunks=True, join=" ")
        words = [word async for word in self.generate(prompt)]
        return create_non_stream_output({"generated_text": " ".join(words[:-1])}, properties={"X-Words": "4"})

service = Service()

async def handle(inputs: Input):
    if not service.initialized:
        logging.info("loading")
        service.initialized = True
    if inputs.is_empty():
        return None
    return await service.inference(inputs)
"""

CLASSICAL = """
import json
import numpy as np
from io import StringIO
from typing import Optional
from djl_python import Input, Output
from djl_python.custom_formatter_handling import load_custom_code
from djl_python.encode_decode import decode
from djl_python.import_utils import xgboost as xgb
from djl_python.utils import find_model_file

class Handler:
    def __init__(self):
        self.model = None
        self.initialized = False

    def initialize(self, properties: dict):
        model_dir = properties.get("model_dir")
        self.custom_code = load_custom_code(model_dir)
        model_file = find_model_file(model_dir, ["json"])
        if not model_file:
            raise FileNotFoundError(f"No model file found in {model_dir}")
        if xgb is None:
            with open(model_file) as f:
                self.model = np.array(json.load(f))
        self.initialized = True

    def inference(self, inputs: Input) -> Output:
        content_type = inputs.get_property("Content-Type")
        accept = inputs.get_property("Accept")
        if self.custom_code.formatters.input_formatter:
            X = self.custom_code.formatters.input_formatter(inputs)
        elif "text/csv" in content_type:
            X = decode(inputs, content_type, require_csv_headers=False)
        else:
            X = np.array(decode(inputs, content_type).get("inputs"))
        X = X.reshape(1, -1) if X.ndim == 1 else X
        predictions = X @ self.model
        outputs = Output()
        if self.custom_code.formatters.output_formatter:
            outputs.add(self.custom_code.formatters.output_formatter(predictions))
        elif "text/csv" in accept:
            buffer = StringIO()
            np.savetxt(buffer, predictions, fmt="%s", delimiter=",")
            outputs.add(buffer.getvalue().rstrip())
            outputs.add_property("Content-Type", "text/csv")
        else:
            outputs.add_as_json({"predictions": predictions.tolist()})
        return outputs

service = Handler()

def handle(inputs: Input) -> Optional[Output]:
    if not service.initialized:
        service.initialize(inputs.get_properties())
    if inputs.is_empty():
        return None
    return service.inference(inputs)
"""

OWN_OUTPUT = """
from djl_python.output_formatter import output_formatter

@output_formatter
def rounded(predictions):
    return {"rounded": [round(float(each)) for each in predictions]}
"""


CLOSE = b'{"inputs": "close"}'


def post(served: Served, body: bytes, kind: str, **headers: str) -> httpx.Response:
    reply = httpx.post(f"{served.address}/invocations", content=body, headers={"content-type": kind, **headers})
    assert reply.status_code == 200, reply.text
    return reply


def test_a_script_calls_everything_by_the_names_of_parameters(tmp_path: Path) -> None:
    properties = f"engine=Python\noption.sessions_path={tmp_path}/sessions\n"
    with serving(write_script(tmp_path / "model", BY_NAME, properties)) as served:
        arrays = to_nd_list(np_list=[np.arange(3), np.ones(2)])
        as_list = post(served, arrays, "tensor/ndlist")
        as_npz = post(served, arrays, "tensor/ndlist", accept="tensor/npz")
        raw = post(served, b"\xff\x00", "application/octet-stream").json()
        lines = post(served, b'{"inputs": "stream"}', "application/json").text.splitlines()
        opened = post(served, b'{"inputs": "open"}', "application/json")
        session = {"x-amzn-sagemaker-session-id": opened.headers["x-amzn-sagemaker-session-id"]}
        seen = [post(served, each, "application/json", **session).json() for each in (b'{"inputs": 1}', CLOSE)]
        gone = served.ask({"inputs": 1}, **session)
        wrong = served.ask({"inputs": 1}, **{"x-amzn-sagemaker-session-id": "nonsense"})

    assert [each.tolist() for each in from_nd_list(encoded=as_list.content)] == [[0, 2, 4], [2, 2]]
    assert [each.tolist() for each in from_npz(as_npz.content)] == [[0, 2, 4], [2, 2]]
    assert raw == {"size": 2, "first": 255}
    assert [json.loads(line) for line in lines] == [{"outputs": "word 0"}, {"outputs": "word 1"}]
    assert seen == [{"one": "one", "raw": "1", "at": str(datetime(2026, 1, 2, 3, 4, 5)), "frame": "frame"}] * 2
    assert gone.status_code == 404
    assert (wrong.status_code, "a session's id is 36 characters" in wrong.text) == (424, True)


def test_an_asynchronous_script_answers_and_streams_by_async_utils(tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", ASYNCHRONOUS)) as served:
        whole = served.ask({"inputs": "a cup of tea"})
        stream = served.ask({"inputs": "a cup", "stream": True})
        wrong = served.ask({"stream": True})
        broken = served.ask({"inputs": "a boom b", "stream": True})

    assert (whole.json(), whole.headers["x-words"]) == ({"generated_text": "a cup of tea"}, "4")
    assert [json.loads(line) for line in stream.text.splitlines()] == [
        {"token": "a"},
        {"token": "cup"},
        {"generated_text": "a cup"},
    ]
    assert stream.headers["content-type"] == "application/jsonlines"
    assert (wrong.status_code, "Invalid payload: 'inputs'" in wrong.text) == (400, True)
    first, last = broken.text.splitlines()
    assert json.loads(first) == {"token": "a"} and "the tea is cold" in last


def test_a_classical_models_handler_takes_tables_and_a_model_py_beside_it(tmp_path: Path) -> None:
    properties = "engine=Python\noption.entryPoint=handler.py\n"
    for name, beside in (("plain", None), ("own", OWN_OUTPUT)):
        folder = write_script(tmp_path / name, "", properties)
        (folder / "model.json").write_text("[1.0, 2.5]")
        (folder / "handler.py").write_text(CLASSICAL)
        (folder / "model.py").unlink() if beside is None else (folder / "model.py").write_text(beside)
    with serving(tmp_path / "plain") as served:
        table = post(served, b"1,2\n3,4\n", "text/csv", accept="text/csv")
        listed = post(served, b'{"inputs": [1, 2]}', "application/json", accept="application/json").json()
        wrong = httpx.post(f"{served.address}/invocations", content=b"a,b\n", headers={"content-type": "text/csv"})
    with serving(tmp_path / "own") as served:
        own = post(served, b"1,2\n", "text/csv").json()

    assert (table.text, table.headers["content-type"]) == ("6.0\n13.0", "text/csv")
    assert listed == {"predictions": [6.0]}
    assert (wrong.status_code, "must be numbers alone" in wrong.text) == (424, True)
    assert own == {"rounded": [6]}
