"""model.py files without a model's library, as LMI's users wrote them, unmodified, over HTTP: arrays, forms, logs.

Written here in their style. Those with transformers or DeepSpeed: test_script_samples.py, test_script_deepspeed.py.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from djl_python.np_util import from_nd_list, from_npz, to_nd_list, to_npz
from tests.served import Served, eventually, serving, write_script

pytestmark = pytest.mark.slow

ECHO = """
import logging
import sys
from djl_python.inputs import Input
from djl_python.outputs import Output
from djl_python.pair_list import PairList
import beside

logging.info("the script is being imported")

def handle(inputs: Input) -> Output:
    if inputs.contains_key("exception"):
        raise ValueError(inputs.get_as_string("exception"))
    elif inputs.contains_key("exit"):
        sys.exit()
    logging.info(f"asked with {inputs.get_function_name()} {beside.WORD}")
    content = inputs.get_content()
    assert isinstance(content, PairList)
    outputs = Output()
    data = inputs.get_as_bytes()
    outputs.add(data, key="data")
    if inputs.get_property("content-type"):
        outputs.add_property("content-type", inputs.get_property("content-type"))
    return outputs
"""

ARRAYS = """
import logging
import numpy as np
from djl_python import Input, Output

class Accumulation(object):
    def __init__(self):
        self.sum = None
        self.initialized = False

    def initialize(self, properties: dict):
        device_id = properties.get("device_id")
        self.device = "cpu" if device_id == "-1" else "cuda:" + device_id
        self.sum = np.zeros(3, dtype="float32")
        self.initialized = True

    def accumulate(self, inputs):
        outputs = Output()
        try:
            (data,) = inputs.get_as_numpy()
            self.sum = self.sum + data
            if "npz" in inputs.get_property("content-type"):
                return outputs.add_property("content-type", "tensor/npz").add_as_npz([self.sum, data])
            outputs.add_property("content-type", "tensor/ndlist")
            outputs.add_as_numpy([self.sum])
        except Exception as e:
            logging.exception("accumulate failed")
            outputs.set_code(500)
            outputs.set_message(str(e))
        return outputs

_service = Accumulation()

def handle(inputs: Input):
    if not _service.initialized:
        _service.initialize(inputs.get_properties())
    if inputs.is_empty():
        return None
    return _service.accumulate(inputs)
"""

PICTURES = """
import json
from djl_python import Input, Output

def invalid(message):
    output = Output(code=422, message="unprocessable")
    output.add(json.dumps({"reason": message}), key="data")
    return output

def handle(inputs: Input):
    if inputs.is_empty():
        return None
    kind = inputs.get_property("Content-Type")
    if kind.startswith("image/"):
        image = inputs.get_as_image()
        return Output().add_as_json({"size": image.size, "mode": image.mode})
    if kind.startswith("multipart/form-data"):
        question = inputs.get_as_json("inputs")
        image = inputs.get_as_image("picture")
        return Output().add_as_json({"question": question, "size": image.size, "keys": inputs.get_content().get_keys()})
    if kind.startswith("text/csv"):
        rows = inputs.get_as_csv()
        return Output().add_property("content-type", "text/csv").add("\\n".join(row["inputs"] for row in rows))
    return invalid("no picture: " + inputs.get_data())
"""

BATCHES = """
import logging
from djl_python import Input, Output

class Service:
    def __init__(self):
        self.initialized = False

    def initialize(self, properties):
        self.names = properties.get("names", "?").split(",")
        self.initialized = True

    def preprocess(self, inputs):
        data, sizes, parameters = [], [], {}
        for item in inputs.get_batches():
            body = item.get_as_json()
            texts = body.pop("inputs")
            data.extend(texts if isinstance(texts, list) else [texts])
            sizes.append(len(texts) if isinstance(texts, list) else 1)
            parameters.update(body.pop("parameters", {}))
            logging.info(f"headers {item.get_property('X-Amzn-SageMaker-Inference-Id')}")
        return data, sizes, parameters

    def inference(self, inputs):
        data, sizes, parameters = self.preprocess(inputs)
        scores = [{"label": self.names[len(text) % len(self.names)], **parameters} for text in data]
        outputs, offset = Output(), 0
        outputs.add_property("content-type", "application/json")
        for i, size in enumerate(sizes):
            outputs.add(scores[offset:offset + size], key=inputs.get_content().key_at(i))
            offset += size
        return outputs

_service = Service()

def handle(inputs: Input):
    if not _service.initialized:
        _service.initialize(inputs.get_properties())
    if inputs.is_empty():
        return None
    return _service.inference(inputs)
"""

FAILS = """
import os
import sys
from djl_python import Input, Output

class OutOfMemoryError(RuntimeError):
    pass

def stream(kind):
    yield {"generated_text": "one"}
    if kind == "stream_memory":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if kind == "stream_exit":
        sys.exit(1)

def handle(inputs: Input):
    if inputs.is_empty():
        return None
    kind = inputs.get_as_json()["kind"]
    if kind == "memory":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if kind == "cuda":
        raise RuntimeError("CUDA error: out of memory")
    if kind == "message":
        return Output(code=503, message="the model is too busy")
    if kind == "set":
        return Output().set_code(409).set_message("conflict")
    if kind == "silent":
        return Output().set_code(500)
    if kind == "wrong":
        return "x", 3
    if kind == "key":
        return Output().add(inputs.get_as_json()["nothing"])
    if kind == "interrupt":
        raise KeyboardInterrupt()
    if kind == "abort":
        os.abort()
    if kind.startswith("stream"):
        return Output().add_property("content-type", "application/jsonlines").add_stream_content(stream(kind))
    return Output().add("fine")
"""


def post(served: Served, content: bytes, kind: str, **headers: str) -> httpx.Response:
    given = {"Content-Type": kind, **headers}
    return httpx.post(f"{served.address}/invocations", content=content, headers=given, timeout=60)


def picture(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_a_script_that_logs_imports_from_its_folder_and_answers_what_it_got(tmp_path: Path) -> None:
    folder = write_script(tmp_path / "model", ECHO)
    (folder / "beside.py").write_text("WORD = 'from beside'\n")
    with serving(folder) as served:
        reply = post(served, "grün".encode(), "text/plain")
        raised = post(served, b"exception=cold+tea", "application/x-www-form-urlencoded")
        ended = post(served, b"exit=1", "application/x-www-form-urlencoded")
        served.wait()
        again = post(served, b"\x00\xff", "application/octet-stream")
        log = (tmp_path / "model.stderr").read_text()

    assert (reply.content, reply.headers["content-type"]) == ("grün".encode(), "text/plain")
    assert (raised.status_code, raised.json()["error"]) == (424, "the script failed: ValueError: cold tea")
    assert (ended.status_code, again.content) == (424, b"\x00\xff")
    assert "the script is being imported" in log and "asked with handle from beside" in log


def test_arrays_in_and_out_as_ndlist_and_npz(tmp_path: Path) -> None:
    one = np.array([1, 2, 3], "float32")
    with serving(write_script(tmp_path / "model", ARRAYS)) as served:
        first = post(served, to_nd_list([one]), "tensor/ndlist")
        second = post(served, to_npz([one * 2]), "tensor/npz")
        wrong = post(served, to_nd_list([one, one]), "tensor/ndlist")

    assert first.headers["content-type"] == "tensor/ndlist"
    np.testing.assert_array_equal(from_nd_list(first.content), [one])
    np.testing.assert_array_equal(from_npz(second.content), [one * 3, one * 2])
    assert (wrong.status_code, wrong.json()["error"]) == (500, "too many values to unpack (expected 1)")


def test_pictures_forms_and_tables(tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", PICTURES)) as served:
        alone = post(served, picture(3, 2), "image/png")
        form = httpx.post(
            f"{served.address}/invocations",
            data={"inputs": json.dumps(["what is it?"])},
            files={"picture": ("cat.png", picture(5, 4), "image/png")},
            timeout=60,
        )
        table = post(served, b"inputs,more\na,1\nb,2\n", "text/csv; charset=utf-8")
        refused = post(served, b"hello", "text/plain")

    assert alone.json() == {"size": [3, 2], "mode": "RGB"}
    assert form.json() == {"question": ["what is it?"], "size": [5, 4], "keys": ["inputs", "picture"]}
    assert (table.text, table.headers["content-type"]) == ("a\nb", "text/csv")
    assert (refused.status_code, json.loads(refused.content)) == (422, {"reason": "no picture: hello"})


def test_a_service_with_a_preprocess_answers_alone_and_in_batches(tmp_path: Path) -> None:
    properties = "engine=Python\noption.names=even,odd\nbatch_size=4\nmax_batch_delay=1\n"
    with serving(write_script(tmp_path / "model", BATCHES, properties)) as served:
        body = {"inputs": "a", "parameters": {"k": 1}}
        one = post(served, json.dumps(body).encode(), "application/json", **{"X-Amzn-SageMaker-Inference-Id": "tea"})
        several = served.ask({"inputs": ["a", "bb"]})
        log = (tmp_path / "model.stderr").read_text()

    assert one.json() == [{"label": "odd", "k": 1}]
    assert several.json() == [{"label": "odd"}, {"label": "even"}]
    assert "headers tea" in log


@pytest.mark.parametrize(
    ("kind", "code", "sentence"),
    [
        ("memory", 507, "CUDA out of memory. Tried to allocate 20.00 GiB"),
        ("cuda", 507, "CUDA error: out of memory"),
        ("message", 503, "the model is too busy"),
        ("set", 409, "conflict"),
        ("silent", 500, "the script does not say why"),
        ("wrong", 424, "handle() must return an Output"),
        ("key", 424, "KeyError: 'nothing'"),
    ],
)
def test_what_fails_is_told_with_its_code_and_the_script_goes_on(
    failing: Served, kind: str, code: int, sentence: str
) -> None:
    before = failing.ranks()
    reply = failing.ask({"kind": kind})

    assert (reply.status_code, reply.json()["code"]) == (code, code)
    assert sentence in reply.json()["error"]
    assert failing.ask({"kind": "fine"}).text == "fine"
    assert failing.ranks() == before


def test_memory_that_runs_out_in_a_stream_ends_it_with_507_in_its_last_line(failing: Served) -> None:
    lines = failing.ask({"kind": "stream_memory"}).text.splitlines()

    assert json.loads(lines[0]) == {"outputs": {"generated_text": "one"}}
    assert json.loads(lines[1])["code"] == 507
    assert failing.ask({"kind": "fine"}).text == "fine"


@pytest.mark.parametrize("kind", ["interrupt", "abort", "stream_exit"])
def test_a_script_that_ends_itself_is_started_again_whatever_it_was_doing(tmp_path: Path, kind: str) -> None:
    with serving(write_script(tmp_path / "model", FAILS)) as served:
        (before,) = served.ranks()
        reply = served.ask({"kind": kind})
        (after,) = eventually(lambda: [pid for pid in served.ranks() if pid != before])
        fine = served.wait().ask({"kind": "fine"}).text

    assert fine == "fine" and after != before
    if kind == "stream_exit":
        assert json.loads(reply.text.splitlines()[-1])["code"] == 424
    else:
        assert reply.status_code == 424


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_script(tmp_path_factory.mktemp("fails") / "model", FAILS)) as served:
        yield served
