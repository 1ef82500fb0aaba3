"""model.py files of language models as AWS's samples of 2023 and 2024 have them, unmodified, over HTTP: placed by
`device_map`, streamed, stopped by criteria of one's own, as embeddings, by decorators.

Written here in their style; oracles are transformers' own answers. Those of T5 and of services: test_script_samples.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
import transformers

from djl_python.np_util import from_nd_list
from tests.conftest import ROOT
from tests.served import serving, write_script
from tests.test_script_samples import ask, lines

pytestmark = pytest.mark.slow

LLAMA = ROOT / "models" / "tiny-llama"
PROMPTS = ["write in words: 298", "write as a Roman numeral: 41"]
PROPERTIES = f"engine=Python\noption.model_id={LLAMA}\noption.tensor_parallel_degree=1\n"

GENERATES = """
import logging
import os
import torch
from djl_python import Input
from djl_python import Output
from djl_python.streaming_utils import HFStreamer, StreamingUtils
from threading import Thread
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList, pipeline

os.environ["TRANSFORMERS_CACHE"] = "/tmp"
model, tokenizer, generator = None, None, None

class StopOnTokens(StoppingCriteria):
    def __init__(self, stops):
        self.stops = stops

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> bool:
        return input_ids[0][-1].item() in self.stops

def get_model(properties):
    model_location = properties["model_dir"]
    if "model_id" in properties:
        model_location = properties["model_id"]
    tensor_parallel = int(properties.get("tensor_parallel_degree", "-1"))
    logging.info(f"Loading model in {model_location} on {tensor_parallel}")
    tokenizer = AutoTokenizer.from_pretrained(model_location, padding_side="left")
    if not tokenizer.pad_token:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(
        model_location, device_map="auto", torch_dtype=torch.float32, low_cpu_mem_usage=True
    )
    generator = pipeline(task="text-generation", model=model, tokenizer=tokenizer, device_map="auto")
    return model, tokenizer, generator

def handle(inputs: Input) -> Output:
    global model, tokenizer, generator
    if not model:
        model, tokenizer, generator = get_model(inputs.get_properties())
    if inputs.is_empty():
        return None
    data = inputs.get_as_json()
    input_data = data["inputs"]
    input_data = input_data if isinstance(input_data, list) else [input_data]
    params = data.get("parameters", {})
    how = data.get("how", "pipeline")
    outputs = Output()
    if how == "pipeline":
        return outputs.add_as_json({"outputs": generator(input_data, **params)})
    if how == "criteria":
        params["stopping_criteria"] = StoppingCriteriaList([StopOnTokens([data["stop"]])])
        tokens = tokenizer(input_data, return_tensors="pt", padding=True).to(model.device)
        with torch.inference_mode():
            rows = model.generate(**tokens, **params)
        return outputs.add_as_json(rows)
    outputs.add_property("content-type", "application/jsonlines")
    if how == "generator":
        stream_generator = StreamingUtils.get_stream_generator("Accelerate")
        return outputs.add_stream_content(stream_generator(model, tokenizer, input_data, model.device, **params))
    if how == "default":
        return outputs.add_stream_content(
            StreamingUtils.use_hf_default_streamer(model, tokenizer, input_data, model.device, **params)
        )
    streamer = HFStreamer(tokenizer, skip_special_tokens=True)
    tokens = tokenizer(input_data, return_tensors="pt", padding=True).to(model.device)
    Thread(target=model.generate, kwargs=dict(tokens, streamer=streamer, **params)).start()
    return outputs.add_stream_content(streamer, output_formatter=lambda texts: ("".join(texts) + "|").encode())
"""

EMBEDS = """
import torch
import torch.nn.functional as F
from djl_python import Input, Output
from djl_python.encode_decode import decode, encode
from transformers import AutoModel, AutoTokenizer

class Embeddings:
    def __init__(self):
        self.initialized = False

    def initialize(self, properties):
        location = properties.get("model_id", properties["model_dir"])
        self.tokenizer = AutoTokenizer.from_pretrained(location)
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        self.device = torch.device("cpu" if properties["device_id"] == "-1" else f"cuda:{properties['device_id']}")
        self.model = AutoModel.from_pretrained(location).to(self.device).eval()
        self.initialized = True

    def encode_inputs(self, texts):
        return self.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)

    @torch.no_grad()
    def predict(self, tokens):
        hidden = self.model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    def inference(self, inputs):
        outputs = Output()
        batch = inputs.get_batches()
        texts, sizes = [], []
        for item in batch:
            given = decode(item, item.get_property("Content-Type"))["inputs"]
            texts += given if isinstance(given, list) else [given]
            sizes.append(len(given) if isinstance(given, list) else 1)
        vectors = self.predict(self.encode_inputs(texts)).numpy()
        offset = 0
        for i, item in enumerate(batch):
            encode(outputs, [*vectors[offset:offset + sizes[i]]], item.get_property("Accept"),
                   key=inputs.get_content().key_at(i))
            offset += sizes[i]
        return outputs

_service = Embeddings()

def handle(inputs: Input):
    if not _service.initialized:
        _service.initialize(inputs.get_properties())
    if inputs.is_empty():
        return None
    return _service.inference(inputs)
"""

DECORATED = """
import json
import torch
from djl_python import Input, Output
from djl_python.input_parser import init_handler, input_formatter, prediction_handler
from djl_python.output_formatter import output_formatter
from transformers import AutoModelForCausalLM, AutoTokenizer

@init_handler
def load(model_dir, properties):
    location = properties["model_id"]
    return AutoTokenizer.from_pretrained(location), AutoModelForCausalLM.from_pretrained(location)

@input_formatter
def read(inputs: Input):
    return json.loads(inputs.get_as_string())["question"]

@prediction_handler
def predict(question, model):
    tokenizer, llama = model
    tokens = tokenizer(question, return_tensors="pt")
    row = llama.generate(**tokens, max_new_tokens=8, do_sample=False)[0, tokens.input_ids.shape[1]:]
    return {"text": tokenizer.decode(row, skip_special_tokens=True), "tokens": row}

@output_formatter
def write(answer):
    return Output().add_property("content-type", "application/json").add_as_json(answer)
"""


def greedy(prompt: str, count: int = 8) -> tuple[list[int], str]:
    """transformers' own new tokens, and their text."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(LLAMA)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(LLAMA)
    tokens = tokenizer(prompt, return_tensors="pt")
    rows = model.generate(**tokens, max_new_tokens=count, do_sample=False)
    new: list[int] = rows[0, tokens.input_ids.shape[1] :].tolist()
    return new, tokenizer.decode(new, skip_special_tokens=True)


def test_a_model_placed_by_device_map_is_asked_by_a_pipeline_stopped_and_streamed(tmp_path: Path) -> None:
    chosen = {"max_new_tokens": 8, "do_sample": False}
    with serving(write_script(tmp_path / "model", GENERATES, PROPERTIES)) as served:
        own = {**chosen, "return_full_text": False}
        pipeline = ask(served, {"inputs": PROMPTS, "parameters": own})
        new, _ = greedy(PROMPTS[0])
        stopped = ask(served, {"inputs": PROMPTS[0], "parameters": chosen, "how": "criteria", "stop": new[2]})
        streams = [
            lines(served, {"inputs": PROMPTS, "parameters": chosen, "how": how}) for how in ("generator", "default")
        ]
        formatted = served.ask({"inputs": PROMPTS[:1], "parameters": chosen, "how": "own"}).text
        wrong = served.ask({"inputs": PROMPTS, "parameters": {"nothing_such": 1}, "how": "default"}).text
        again = ask(served, {"inputs": PROMPTS, "parameters": own})

    texts = [greedy(prompt)[1] for prompt in PROMPTS]
    assert pipeline == again == {"outputs": [[{"generated_text": text}] for text in texts]}
    assert stopped[0][-3:] == new[:3]
    for stream in streams:
        assert len(stream) > 1
        assert ["".join(column) for column in zip(*stream, strict=True)] == [f" {text}" for text in texts]
    assert formatted.replace("|", "") == f" {texts[0]}" and formatted.count("|") > 1
    assert "nothing_such" in json.loads(wrong.splitlines()[-1])["error"]


def test_embeddings_as_json_and_as_arrays(tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", EMBEDS, PROPERTIES)) as served:
        plain = ask(served, {"inputs": PROMPTS})
        arrays = httpx.post(
            f"{served.address}/invocations",
            content=PROMPTS[0].encode(),
            headers={"Content-Type": "text/plain", "Accept": "tensor/ndlist"},
            timeout=60,
        )

    model: Any = transformers.AutoModel.from_pretrained(LLAMA)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(LLAMA)
    with torch.no_grad():
        hidden = model(**tokenizer(PROMPTS[0], return_tensors="pt")).last_hidden_state[0].mean(0)
    vector = torch.nn.functional.normalize(hidden, dim=0).numpy()
    (found,) = from_nd_list(arrays.content)
    np.testing.assert_allclose(found, vector, atol=1e-5)
    np.testing.assert_allclose(plain[0], vector, atol=1e-5)
    assert len(plain) == 2 and arrays.headers["content-type"] == "tensor/ndlist"


def test_a_model_behind_decorated_functions(tmp_path: Path) -> None:
    with serving(write_script(tmp_path / "model", DECORATED, PROPERTIES)) as served:
        answers = [ask(served, {"question": prompt}) for prompt in PROMPTS]
        wrong = served.ask({"q": "?"})

    assert [(each["tokens"], each["text"]) for each in answers] == [greedy(prompt) for prompt in PROMPTS]
    assert (wrong.status_code, wrong.json()["error"]) == (424, "the script failed: KeyError: 'question'")
