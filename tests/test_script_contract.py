"""Scripts in the style of AWS's samples, unmodified, on the real server: batches, streams, ranks, lost memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.served import Served, serving, write_script

pytestmark = pytest.mark.slow

# as the samples of LMI load a model: once, into a global, from the properties of whichever call comes first
LOADS_ONCE = """
import logging
from djl_python import Input, Output

model = None

def load_model(properties):
    logging.info(f"Loading model in {properties['model_dir']}")
    if "model_id" in properties:
        location = properties["model_id"]
    return {"degree": properties["tensor_parallel_degree"], "location": location}

def run_inference(model, data, params):
    return [{"generated_text": f"{each} {model['location']}", **params} for each in data]

def handle(inputs: Input):
    global model
    if not model:
        model = load_model(inputs.get_properties())

    if inputs.is_empty():
        return None
    data = inputs.get_as_json()
    input_sentences = data["inputs"]
    params = data["parameters"]
    outputs = run_inference(model, input_sentences, params)
    result = {"outputs": outputs}
    return Output().add_as_json(result)
"""

# a service object, encode and decode, dynamic batches, an error for the client
SERVICE = """
from djl_python.encode_decode import encode, decode
from djl_python.inputs import Input
from djl_python.outputs import Output

class Shouting(object):
    def __init__(self):
        self.initialized = False
        self.batches = []

    def initialize(self, properties: dict):
        self.mark = properties.get("mark", "!")
        self.initialized = True

    def inference(self, inputs: Input) -> Output:
        outputs = Output()
        batch = inputs.get_batches()
        self.batches.append(len(batch))
        try:
            for i, item in enumerate(batch):
                content_type = item.get_property("Content-Type")
                accept = item.get_property("Accept")
                input_map = decode(item, content_type)
                data = input_map.pop("inputs", input_map)
                if data == "batches":
                    encode(outputs, self.batches, accept, key=inputs.get_content().key_at(i))
                else:
                    encode(outputs, data.upper() + self.mark, accept, key=inputs.get_content().key_at(i))
        except Exception as e:
            outputs = Output().error((str(e)))
        return outputs

_service = Shouting()

def handle(inputs: Input):
    if not _service.initialized:
        _service.initialize(inputs.get_properties())
    if inputs.is_empty():
        # Model server makes an empty call to warmup the model on startup
        return None
    return _service.inference(inputs)
"""

STREAMS = """
from djl_python import Input, Output

def generate(text, fails):
    for word in text.split():
        yield [word]
    if fails:
        raise MemoryError("the tea is gone")

def handle(inputs: Input) -> Output:
    if inputs.is_empty():
        return None
    data = inputs.get_as_json()
    outputs = Output()
    outputs.add_property("content-type", "application/jsonlines")
    outputs.add_stream_content(generate(data["inputs"], data.get("fails")))
    return outputs
"""

RANKS = """
import os
import torch
import torch.distributed as dist
from djl_python import Input, Output

def handle(inputs: Input):
    if inputs.is_empty():
        dist.init_process_group("gloo", rank=int(os.getenv("RANK")), world_size=int(os.getenv("WORLD_SIZE")))
        return None
    number = torch.tensor([float(inputs.get_as_json()["n"]) + int(os.environ["LOCAL_RANK"])])
    dist.all_reduce(number)  # every rank must make every call, or this never ends
    return Output().add({"sum": number.item(), "rank": dist.get_rank(), "device": inputs.get_property("device_id")})
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    properties = "engine=Python\noption.mark=?\nbatch_size=4\nmax_batch_delay=2000\n"
    with serving(write_script(tmp_path_factory.mktemp("service") / "model", SERVICE, properties)) as served:
        yield served


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(write_script(tmp_path_factory.mktemp("streams") / "model", STREAMS)) as served:
        yield served


def test_a_script_that_loads_once_answers_with_its_parameters(tmp_path: Path) -> None:
    properties = "engine=DeepSpeed\noption.tensor_parallel_degree=1\noption.model_id=/weights\n"
    with serving(write_script(tmp_path / "model", LOADS_ONCE, properties)) as served:
        reply = served.ask({"inputs": ["a", "b"], "parameters": {"max_length": 50}})

    assert reply.json() == {
        "outputs": [
            {"generated_text": "a /weights", "max_length": 50},
            {"generated_text": "b /weights", "max_length": 50},
        ]
    }


def test_requests_that_come_together_are_one_batch_and_each_gets_its_own_answer(service: Served) -> None:
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda word: service.ask({"inputs": word}), ["a", "b", "c", "d"]))
    batches = service.ask({"inputs": "batches"}).json()

    assert [reply.json() for reply in replies] == ["A?", "B?", "C?", "D?"]
    assert max(batches) > 1


def test_a_request_is_decoded_and_encoded_as_it_says(service: Served) -> None:
    reply = httpx.post(
        f"{service.address}/invocations",
        content=b"inputs=tea",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/plain"},
        timeout=30,
    )

    assert (reply.status_code, reply.headers["content-type"], reply.text) == (
        200,
        "text/plain; charset=utf-8",
        "INPUTS=TEA?",  # of a form, decode gives the text as it came, as in LMI
    )


def test_a_batch_that_fails_is_everybodys_error(service: Served) -> None:
    reply = service.ask({"inputs": 3})

    assert (reply.status_code, reply.json()["code"]) == (424, 424)
    assert "no attribute 'upper'" in reply.json()["error"]


def test_a_stream_comes_line_by_line(streaming: Served) -> None:
    body = {"inputs": "one two"}
    with httpx.stream("POST", f"{streaming.address}/invocations", json=body, timeout=30) as reply:
        lines = [json.loads(line) for line in reply.iter_lines() if line]

    assert reply.headers["content-type"] == "application/jsonlines"
    assert reply.headers["transfer-encoding"] == "chunked"
    assert lines == [{"outputs": ["one"]}, {"outputs": ["two"]}]


def test_a_stream_that_fails_ends_with_the_error_and_the_next_one_is_whole(streaming: Served) -> None:
    broken = streaming.ask({"inputs": "one", "fails": True})
    sound = streaming.ask({"inputs": "one"})

    assert broken.text.startswith('{"outputs": ["one"]}\n')
    assert "the tea is gone" in broken.text
    assert sound.text == '{"outputs": ["one"]}\n'


ARCHIVED = """
class Shouter:
    def initialize(self, context):
        self.mark = context.manifest["mark"]

    def handle(self, data, context):
        context.set_response_content_type(0, "text/x-shout")
        return [row["body"]["inputs"].upper() + self.mark for row in data]
"""


def test_a_torchserve_archive_runs_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "MAR-INF").mkdir(parents=True)
    (folder / "shouter.py").write_text(ARCHIVED)
    (folder / "MAR-INF" / "MANIFEST.json").write_text('{"model": {"handler": "shouter"}, "mark": "!"}')

    with serving(folder) as served:
        reply = served.ask({"inputs": "hello"})

    assert (reply.status_code, reply.headers["content-type"], reply.text) == (200, "text/x-shout", "HELLO!")


def test_memory_that_ran_out_is_507_and_the_script_goes_on(tmp_path: Path) -> None:
    script = "def handle(inputs):\n    if not inputs.is_empty(): raise MemoryError('too much')\n"
    with serving(write_script(tmp_path / "model", script)) as served:
        replies = [served.ask({}).status_code for _ in range(2)]

        assert replies == [507, 507]
        assert served.ping() == 200


def test_ranks_of_a_script_make_every_call_together_and_the_first_one_answers(tmp_path: Path) -> None:
    properties = "engine=MPI\noption.tensor_parallel_degree=2\n"
    with serving(write_script(tmp_path / "model", RANKS, properties)) as served:
        replies = [served.ask({"n": n}).json() for n in (1, 5)]

        assert len(served.ranks()) == 2

    assert replies == [{"sum": 3.0, "rank": 0, "device": "-1"}, {"sum": 11.0, "rank": 0, "device": "-1"}]
