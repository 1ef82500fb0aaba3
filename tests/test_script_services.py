"""LMI's services in a user's model.py, on the engines that they name: DeepSpeed, and the Neuron SDK's interface.

DeepSpeed is the real one, in the environment that `make deepspeed` installs; the Neuron SDK is the recorded interface
(tests/recorded). HuggingFaceService and FasterTransformerService: test_script_samples.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from heavylift_runtime.engines.interpreter import VARIABLE, own_environment
from heavylift_runtime.engines.registry import ENGINES
from tests.conftest import ROOT
from tests.neuron_sdk import with_recorded_sdk
from tests.served import Served, eventually, kill, serving, write_script
from tests.t5_checkpoints import write_t5
from tests.test_fastertransformer import PROMPTS, expected
from tests.test_script_samples import ask, children, lines

pytestmark = pytest.mark.slow

INSTALLED = ENGINES["deepspeed"].missing() is None or own_environment(ENGINES["deepspeed"], ROOT) is not None
with_deepspeed = pytest.mark.skipif(not INSTALLED, reason="DeepSpeed has an environment of its own: make deepspeed")
COMPILES_S = 500.0  # on a busy machine, the first time
OFFLINE = {"HF_HUB_OFFLINE": "1", VARIABLE: str(ROOT)}

DEEPSPEED = """
import logging
from djl_python import Input, Output
from djl_python.deepspeed import DeepSpeedService

_service = DeepSpeedService()

def handle(inputs: Input) -> Output:
    if not _service.initialized:
        properties = inputs.get_properties()
        logging.info(f"tensor_parallel_degree {int(properties.get('tensor_parallel_degree', 1))}")
        _service.initialize(properties)
    if inputs.is_empty():
        return None
    return _service.inference(inputs)
"""

NEURONX = """
from djl_python import Input
from djl_python.transformers_neuronx import TransformersNeuronXService

service = TransformersNeuronXService()

def handle(inputs: Input):
    if not service.initialized:
        service.initialize(inputs.get_properties())
    if inputs.is_empty():
        return None
    return service.inference(inputs)
"""

FASTER = """
import fastertransformer as ft
from djl_python import Input, Output

model, other = None, None

def handle(inputs: Input):
    global model, other
    if model is None:
        degree = inputs.get_properties()["tensor_parallel_degree"]
        model = ft.init_inference(inputs.get_property("model_id"), degree, 1, "fp32")
        other = ft.init_inference(inputs.get_property("model_id"), degree, 1, "fp32")
    if inputs.is_empty():
        return None
    data = inputs.get_as_json()
    asked = other if data.get("other") else model
    return Output().add_as_json(asked.pipeline_generate(data["inputs"], max_seq_len=9))
"""

# as scripts of 2023 call DeepSpeed themselves: every rank of mpirun, its own part of the layers
INIT_INFERENCE = """
from djl_python import Input, Output
import deepspeed
import torch
import logging
import os
from transformers import AutoModelForCausalLM, AutoTokenizer

model = None
tokenizer = None

def load_model(properties):
    tensor_parallel = properties["tensor_parallel_degree"]
    model_location = properties["model_dir"]
    if "model_id" in properties:
        model_location = properties["model_id"]
    logging.info(f"Loading model in {model_location}")
    tokenizer = AutoTokenizer.from_pretrained(model_location)
    model = AutoModelForCausalLM.from_pretrained(model_location, low_cpu_mem_usage=True)
    if "dtype" in properties:
        if properties["dtype"] == "float16":
            model.to(torch.float16)
    logging.info(f"Starting DeepSpeed init with TP={tensor_parallel}")
    model = deepspeed.init_inference(
        model, tensor_parallel={"tp_size": tensor_parallel}, dtype=model.dtype, replace_method="auto"
    )
    return model.module, tokenizer

def handle(inputs: Input):
    global model, tokenizer
    if not model:
        model, tokenizer = load_model(inputs.get_properties())
    if inputs.is_empty():
        return None
    data = inputs.get_as_json()
    input_sentences = data["inputs"]
    params = data["parameters"]
    answers = []
    for sentence in input_sentences:
        tokens = tokenizer(sentence, return_tensors="pt")
        with torch.no_grad():
            rows = model.generate(tokens.input_ids, attention_mask=tokens.attention_mask, **params)
        answers.append(rows[0].tolist())
    split = model.model.layers[0].mlp.gate_proj.weight.shape
    return Output().add_as_json({"outputs": answers, "rank": os.environ["LOCAL_RANK"], "split": list(split)})
"""


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_t5(tmp_path_factory.mktemp("t5"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module", params=["Python", "DeepSpeed"])
def deepspeed(request: pytest.FixtureRequest, t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One script process with both ranks beside it, or two script processes under MPI with one rank each."""
    properties = (
        f"engine={request.param}\noption.model_id={t5}\noption.dtype=fp32\noption.tensor_parallel_degree=2\n"
        "option.entryPoint=model.py\nretry_threshold=50\noption.predict_timeout=600\n"
    )
    folder = write_script(tmp_path_factory.mktemp("deepspeed") / "model", DEEPSPEED, properties)
    with serving(folder, OFFLINE) as served:
        yield served


@with_deepspeed
def test_a_deepspeed_service_answers_as_transformers_does_also_under_mpi(deepspeed: Served, t5: Path) -> None:
    body = {"inputs": PROMPTS, "parameters": {"max_new_tokens": 9}}

    assert ask(deepspeed, body) == [{"generated_text": text} for text in expected(t5, 9)]


@with_deepspeed
def test_a_deepspeed_service_streams_and_refuses_also_under_mpi(deepspeed: Served, t5: Path) -> None:
    wishes = {"max_new_tokens": 9}
    wrong = deepspeed.ask({"inputs": "2468", "parameters": {"max_new_tokens": "many"}})
    stream = lines(deepspeed, {"inputs": "2468", "parameters": wishes, "stream": True})

    assert (wrong.status_code, "'max_new_tokens' must be" in wrong.json()["error"]) == (400, True)
    assert len(stream) > 1 and "".join(text for (text,) in stream) == expected(t5, 9)[0]


@pytest.mark.parametrize("rank", range(2))
def test_ranks_of_two_models_under_mpi_live_and_die_with_their_scripts(t5: Path, tmp_path: Path, rank: int) -> None:
    properties = (
        f"engine=MPI\noption.tensor_parallel_degree=2\noption.model_id={t5}\nretry_threshold=50\n"
        "option.predict_timeout=600\n"  # nobody comes back only because that time is over
    )
    with serving(write_script(tmp_path / "model", FASTER, properties)) as served:
        first = [ask(served, {"inputs": PROMPTS, "other": other}) for other in (False, True)]
        before = served.ranks()
        kill(children(before[rank])[0])
        eventually(lambda: served.ask({"inputs": PROMPTS}).status_code == 200 and not {*before} & {*served.ranks()})
        again = [ask(served, {"inputs": PROMPTS, "other": other}) for other in (False, True)]

    assert first == again == [expected(t5, 9)] * 2


@with_deepspeed
def test_a_deepspeed_service_whose_rank_is_killed_fails_and_answers_again(deepspeed: Served, t5: Path) -> None:
    body = {"inputs": PROMPTS, "parameters": {"max_new_tokens": 9}}
    ranks = [child for script in deepspeed.ranks() for child in children(script)]
    kill(ranks[-1])

    def answered() -> bool:
        reply = deepspeed.ask(body)
        assert reply.status_code in (200, 424, 503), reply.text
        return reply.status_code == 200

    eventually(answered)

    assert len(ranks) == 2
    assert ask(deepspeed, body) == [{"generated_text": text} for text in expected(t5, 9)]


@with_deepspeed
def test_a_script_that_calls_deepspeed_itself_runs_on_the_ranks_of_mpi(tmp_path: Path) -> None:
    python = own_environment(ENGINES["deepspeed"], ROOT)
    own = "" if python is None else f"option.pythonExecutable={python}\n"
    llama = ROOT / "models" / "tiny-llama"
    properties = f"engine=DeepSpeed\noption.tensor_parallel_degree=2\noption.model_id={llama}\n{own}"
    body = {"inputs": ["write in words: 298", "12"], "parameters": {"max_new_tokens": 8, "do_sample": False}}
    built = (tmp_path if python is None else python.parent.parent) / "extensions"  # its operator, compiled once
    for lock in built.glob("**/lock"):
        lock.unlink()  # of a compiler that was killed: DeepSpeed would wait for ever
    environ = {**OFFLINE, "TORCH_EXTENSIONS_DIR": str(built)}
    with serving(write_script(tmp_path / "model", INIT_INFERENCE, properties), environ, wait=False) as served:
        eventually(lambda: served.process.poll() is not None or served.ping() == 200, COMPILES_S)
        found = ask(served.wait(), body)

    whole: Any = transformers.AutoModelForCausalLM.from_pretrained(llama)
    assert found["rank"] == "0"
    assert found["split"][0] * 2 == whole.config.intermediate_size
    assert found["outputs"] == [greedy(whole, llama, text) for text in body["inputs"]]


def test_a_neuronx_service_answers_over_the_recorded_interface(tmp_path: Path) -> None:
    llama = ROOT / "models" / "tiny-llama"
    properties = f"engine=Python\noption.model_id={llama}\noption.dtype=fp32\noption.n_positions=256\n"
    environ = with_recorded_sdk({"HF_HUB_OFFLINE": "1", "NEURON_PLATFORM_TARGET_OVERRIDE": "inf2"})
    prompts = ["write in words: 298", "write as a Roman numeral: 41"]
    with serving(write_script(tmp_path / "model", NEURONX, properties), environ) as served:
        whole = ask(served, {"inputs": prompts, "parameters": {"max_new_tokens": 8}})
        stream = lines(served, {"inputs": prompts[0], "parameters": {"max_new_tokens": 8}, "stream": True})
        wrong = served.ask({"inputs": prompts[0], "parameters": {"num_beams": 4}})

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(llama)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(llama)
    wholes = [tokenizer.decode(greedy(model, llama, prompt), skip_special_tokens=True) for prompt in prompts]
    texts = [text.removeprefix(prompt) for text, prompt in zip(wholes, prompts, strict=True)]
    assert [each["generated_text"] for each in whole] == texts
    assert "".join(text for (text,) in stream) == texts[0]
    assert (wrong.status_code, "beam" in wrong.json()["error"]) == (400, True)


def greedy(model: Any, folder: Path, prompt: str) -> list[int]:
    """transformers' own tokens, the prompt's before them."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        row: list[int] = model.generate(**tokens, max_new_tokens=8, do_sample=False)[0].tolist()
    return row
