"""model.py files as AWS's samples and LMI's documentation have them, unmodified, over HTTP, beside transformers itself.

Written here in their style: a service of djl_python's with a `parse_input` of one's own, the handlers that
ModelBuilder's template imports, pipelines and tokenizers of transformers 4, transformers' own streamer in a thread.
FasterTransformer's is in test_fastertransformer.py; batches, ranks and archives are in test_script_contract.py.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.served import Served, eventually, kill, serving, write_script
from tests.t5_checkpoints import write_t5
from tests.test_fastertransformer import PROMPTS, expected

pytestmark = pytest.mark.slow

SERVICE = """
import logging
import types
from djl_python import Output
from djl_python.encode_decode import decode, encode
from djl_python.huggingface import HuggingFaceService

_service = HuggingFaceService()

def parse_input(self, inputs):
    input_data, input_size, parameters, errors = [], [], [], {}
    batch = inputs.get_batches()
    for i, item in enumerate(batch):
        try:
            input_map = decode(item, item.get_property("Content-Type"))
            asked = input_map.pop("prompt", input_map)
            parameters.append(input_map)
            asked = asked if isinstance(asked, list) else [asked]
            self.tokenizer(asked[0])  # as those do that write a chat into its template
            input_data.extend(asked)
            input_size.append(len(asked))
        except Exception as e:
            logging.exception("Parse input failed: %s", i)
            input_size.append(0)
            errors[i] = str(e)
    return input_data, input_size, parameters, errors, batch

def handle(inputs):
    if not _service.initialized:
        _service.initialize(inputs.get_properties())
        _service.parse_input = types.MethodType(parse_input, _service)
    if inputs.is_empty():
        return None
    return _service.inference(inputs)
"""

TEMPLATE = """
from djl_python import Input, Output

class HandleTemplate:
    def __init__(self):
        self.initialized = False

    def initialize(self, inputs: Input):
        self.initialized = True
        if "FasterTransformer" == inputs.get_property("engine"):
            from djl_python.fastertransformer import handle
        else:
            from djl_python.huggingface import handle
        self._handle = handle

_template = HandleTemplate()

def handle(inputs: Input) -> Output:
    if not _template.initialized:
        _template.initialize(inputs)
    return _template._handle(inputs)
"""

PIPELINE = """
import logging
import torch
from djl_python import Input, Output
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

predictor = None

def load_model(properties):
    location = properties["model_id"] if "model_id" in properties else properties["model_dir"]
    logging.info(f"Loading model in {location}")
    tokenizer = AutoTokenizer.from_pretrained(location)
    model = AutoModelForSeq2SeqLM.from_pretrained(
        location, torch_dtype=torch.float32, low_cpu_mem_usage=True, load_in_8bit=False, use_auth_token=None
    )
    return model, tokenizer, pipeline("text2text-generation", model=model, tokenizer=tokenizer,
                                      device=int(properties["device_id"]))

def handle(inputs: Input):
    global predictor
    if not predictor:
        predictor = load_model(inputs.get_properties())
    if inputs.is_empty():
        return None
    model, tokenizer, generator = predictor
    data = inputs.get_as_json()
    params = data.get("parameters", {})
    if data.get("translate"):
        translator = pipeline("translation_en_to_de", model=model, tokenizer=tokenizer)
        return Output().add(translator(data["inputs"], **params))
    if data.get("by_hand"):
        tokens = tokenizer.batch_encode_plus(data["inputs"], return_tensors="pt", padding=True)
        with torch.no_grad():
            rows = model.generate(**tokens, **params)
        return Output().add({"outputs": tokenizer.batch_decode(rows, skip_special_tokens=True)})
    return Output().add(generator(data["inputs"], **params))
"""

STREAMER = """
from threading import Thread
from djl_python import Input, Output
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, TextIteratorStreamer

model = tokenizer = None

def handle(inputs: Input) -> Output:
    global model, tokenizer
    if not model:
        location = inputs.get_property("model_id")
        model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(location), AutoTokenizer.from_pretrained(location)
    if inputs.is_empty():
        return None
    data = inputs.get_as_json()
    kwargs = data.get("model_kwargs", {})
    outputs = Output()
    kwargs["inputs"] = tokenizer(data["prompt"], return_tensors="pt").input_ids
    if not kwargs.pop("stream_enabled", False):
        return outputs.add(tokenizer.decode(model.generate(**kwargs)[0], skip_special_tokens=True))
    outputs.add_property("content-type", "application/jsonlines")
    streamer = TextIteratorStreamer(tokenizer, skip_special_tokens=True)
    Thread(target=model.generate, kwargs={**kwargs, "streamer": streamer}).start()
    outputs.add_stream_content(streamer)
    return outputs
"""


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_t5(tmp_path_factory.mktemp("t5"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    prefixes = {"task_specific_params": {"translation_en_to_de": {"prefix": PROMPTS[0][:2]}}}
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | prefixes))
    return folder


def ask(served: Served, body: object) -> Any:
    reply = served.ask(body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def lines(served: Served, body: object) -> list[Any]:
    with httpx.stream("POST", f"{served.address}/invocations", json=body, timeout=60) as reply:
        assert reply.headers["content-type"] == "application/jsonlines"
        return [json.loads(line)["outputs"] for line in reply.iter_lines() if line]


def test_a_service_with_a_parse_input_of_the_users_own(t5: Path, tmp_path: Path) -> None:
    properties = f"engine=Python\noption.model_id={t5}\nbatch_size=4\nmax_batch_delay=100\n"
    with serving(write_script(tmp_path / "model", SERVICE, properties)) as served, ThreadPoolExecutor(3) as clients:
        bodies = [{"prompt": prompt, "max_new_tokens": 9} for prompt in PROMPTS]
        singles = list(clients.map(lambda body: ask(served, body), bodies))
        listed = ask(served, {"prompt": PROMPTS, "max_new_tokens": 9})
        full = ask(served, {"prompt": "A", "max_new_tokens": 9, "return_full_text": True})
        refused = [served.ask(body) for body in ({"prompt": 3}, {"prompt": "a", "max_new_tokens": "many"}, ["a"])]
        stream = lines(served, {"prompt": "2468", "max_new_tokens": 9, "stream": True})
        (child,) = [pid for rank in served.ranks() for pid in children(rank)]
        kill(child)
        lost = served.ask(bodies[0])
        again = ask(served, bodies[0]) if lost.status_code == 424 else lost.json()

    texts = expected(t5, 9)
    assert singles == [[{"generated_text": text}] for text in texts]
    assert listed == [{"generated_text": text} for text in texts]
    assert full == [{"generated_text": f"A{texts[2]}"}]
    assert [reply.status_code for reply in refused] == [400] * 3, [reply.text for reply in refused]
    assert "'max_new_tokens' must be a whole number" in refused[1].json()["error"]
    assert len(stream) > 1 and "".join(text for (text,) in stream) == texts[0]
    assert again == [{"generated_text": texts[0]}]


def children(pid: int) -> list[int]:
    """The processes that a process has started, once there are any."""
    tasks = Path(f"/proc/{pid}/task")
    return eventually(lambda: [int(each) for file in tasks.glob("*/children") for each in file.read_text().split()])


@pytest.mark.parametrize("engine", ["Python", "FasterTransformer"])
def test_the_handlers_that_modelbuilders_template_imports(t5: Path, tmp_path: Path, engine: str) -> None:
    properties = f"engine={engine}\noption.model_id={t5}\noption.dtype=fp32\n"
    with serving(write_script(tmp_path / "model", TEMPLATE, properties)) as served:
        answer = ask(served, {"inputs": PROMPTS, "parameters": {"max_new_tokens": 9}})
        wrong = served.ask({"parameters": {}})

    assert answer == [{"generated_text": text} for text in expected(t5, 9)]
    assert wrong.status_code == 400 and "'inputs' must be a text" in wrong.json()["error"]


def test_pipelines_and_tokenizers_of_transformers_4(t5: Path, tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", PIPELINE, f"engine=Python\noption.model_id={t5}\n")) as served:
        one = ask(served, {"inputs": "2468", "parameters": {"max_new_tokens": 9, "do_sample": False}})
        several = ask(served, {"inputs": PROMPTS, "parameters": {"max_new_tokens": 9}})
        by_hand = ask(served, {"inputs": ["2468"], "parameters": {"max_new_tokens": 9}, "by_hand": True})
        german = ask(served, {"inputs": "68", "parameters": {"max_new_tokens": 9}, "translate": True})

    texts = expected(t5, 9)
    assert one == [{"generated_text": texts[0]}]
    assert several == [{"generated_text": text} for text in texts]
    assert by_hand == {"outputs": texts[:1]}
    assert german == [{"translation_text": texts[0]}]


def test_transformers_own_streamer_in_a_thread(t5: Path, tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", STREAMER, f"engine=Python\noption.model_id={t5}\n")) as served:
        asked = {"prompt": "2468", "model_kwargs": {"max_new_tokens": 9}}
        whole = served.ask(asked).text
        stream = lines(served, {**asked, "model_kwargs": {"max_new_tokens": 9, "stream_enabled": True}})

    assert whole == expected(t5, 9)[0]
    assert len(stream) > 1 and "".join(stream).strip() == whole
