"""`import fastertransformer as ft` and engine=FasterTransformer, on real rank processes, beside transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

import fastertransformer as ft
from heavylift_runtime.engines.children import Ended
from heavylift_runtime.engines.script import COMPAT
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.decoder_checkpoints import oracle as decoder_oracle
from tests.served import alive, eventually, kill, serving, write_script
from tests.t5_checkpoints import oracle, write_t5

pytestmark = pytest.mark.slow

PROMPTS = ["2468", "why?", "A"]

# as AWS's notebooks load FasterTransformer from a script of their own
SAMPLE = """
from djl_python import Input, Output
import os
import logging
import fastertransformer as ft

model = None

def load_model(properties):
    tensor_parallel_degree = int(properties["tensor_parallel_degree"])
    pipeline_parallel_degree = 1
    model_location = properties["model_dir"]
    if "model_id" in properties:
        model_location = properties["model_id"]
    dtype = properties.get("dtype", "fp32")
    return ft.init_inference(model_location, tensor_parallel_degree, pipeline_parallel_degree, dtype)

def handle(inputs: Input):
    global model
    if not model:
        model = load_model(inputs.get_properties())
    if inputs.is_empty():
        return None
    data = inputs.get_as_json()
    result = model.pipeline_generate(data["inputs"], **data.get("parameters", {}))
    return Output().add_as_json({"outputs": result})
"""

ORPHANS = """
import sys
import fastertransformer as ft

if __name__ == "__main__":
    model = ft.init_inference(sys.argv[1], 2, 1, "fp32")
    print(*[child.process.pid for child in model._children._children], flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_t5(tmp_path_factory.mktemp("t5"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


@pytest.fixture(scope="module")
def model(t5: Path) -> Iterator[ft.InferenceModel]:
    loaded = ft.init_inference(str(t5), 2, 1, "fp32")
    yield loaded
    loaded.close()


@torch.inference_mode()
def expected(folder: Path, count: int) -> list[str]:
    """transformers' own greedy answers."""
    reference: Any = oracle(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = []
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        row = reference.generate(input_ids=ids, max_new_tokens=count, do_sample=False)[0, 1:].tolist()
        rows.append(tokenizer.decode([token for token in row if token > 1]))
    return rows


def test_a_model_on_two_ranks_answers_as_transformers_does(model: ft.InferenceModel, t5: Path) -> None:
    assert model.pipeline_generate(PROMPTS, max_seq_len=9) == expected(t5, 9)
    assert model.pipeline_generate(PROMPTS[0], max_seq_len=9) == expected(t5, 9)[:1]


def test_a_model_on_two_stages_in_fp16_answers_as_transformers_does(t5: Path, tmp_path: Path) -> None:
    ft.save_checkpoint(str(t5), 1, 2, str(tmp_path / "stages"), "fp16")
    staged = ft.init_inference(str(tmp_path / "stages"), 1, 2, "fp16")

    answers = staged.pipeline_generate(PROMPTS, max_seq_len=9)

    staged.close()
    assert answers == expected(t5, 9)


def test_a_stream_joined_is_the_whole_answer(model: ft.InferenceModel) -> None:
    parts = list(model.stream_generate(PROMPTS, max_seq_len=12))

    assert len(parts) > len(PROMPTS)
    assert ["".join(column) for column in zip(*parts, strict=True)] == model.pipeline_generate(PROMPTS, max_seq_len=12)


def test_a_stream_that_is_left_does_not_disturb_the_next_call(model: ft.InferenceModel, t5: Path) -> None:
    stream = model.stream_generate(PROMPTS, max_seq_len=200)
    next(stream)
    stream.close()  # type: ignore[attr-defined]

    assert model.pipeline_generate(PROMPTS, max_seq_len=9) == expected(t5, 9)


def test_each_prompt_may_have_its_own_length_as_on_triton(model: ft.InferenceModel) -> None:
    texts = model.pipeline_generate(PROMPTS, [1, 2, 3], padding_side="right")
    tokens = model.generate([[5, 7, 1]] * 3, [1, 2, 3])

    assert [len(text.split()) for text in texts] <= [1, 2, 3]
    assert [len(row) for row in tokens] == [1, 2, 3]


def test_sampling_by_fastertransformers_names_is_repeated_by_its_seed(model: ft.InferenceModel) -> None:
    drawn = [
        model.pipeline_generate(PROMPTS, max_seq_len=20, top_k=30, temperature=2.0, random_seed=seed)
        for seed in (1, 1, 2)
    ]

    assert drawn[0] == drawn[1] != drawn[2]
    assert model.pipeline_generate(PROMPTS, max_seq_len=9, temperature=2.0) == model.pipeline_generate(
        PROMPTS, max_seq_len=9
    )  # top_k is 1 unless it is given


@pytest.mark.parametrize(
    ("parameters", "error", "sentence"),
    [
        ({"max_seq_length": 3}, KeyError, "did you mean 'max_seq_len'"),
        ({"top_k": -3}, ValueError, "'top_k' must be a whole number from 0"),
        ({"beam_search_diversity_rate": 0.5}, ValueError, "'beam_search_diversity_rate' must be 0"),
    ],
)
def test_a_parameter_that_it_does_not_have_is_refused(
    model: ft.InferenceModel, parameters: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        model.pipeline_generate(PROMPTS, **parameters)

    assert sentence in str(caught.value)


def test_its_tokenizer_is_transformers_own(model: ft.InferenceModel) -> None:
    assert model.get_tokenizer()("2468")["input_ids"] == [5, 7, 9, 11, 1]


def test_a_rank_that_dies_fails_the_call_and_the_next_one_starts_it_again(t5: Path) -> None:
    own = ft.init_inference(str(t5), 2, 1, "fp32")
    assert own._children is not None
    victims = [child.process.pid for child in own._children._children]
    kill(victims[1])

    with pytest.raises(Ended, match=r"rank . of the model|another rank is gone"):
        own.pipeline_generate(PROMPTS, max_seq_len=200)
        own.pipeline_generate(PROMPTS, max_seq_len=200)
    again = own.pipeline_generate(PROMPTS, max_seq_len=9)
    own.close()

    assert again == expected(t5, 9)
    assert not any(alive(pid) for pid in victims)


def test_no_rank_outlives_a_script_that_is_killed(t5: Path, tmp_path: Path) -> None:
    (tmp_path / "orphans.py").write_text(ORPHANS)
    command = [sys.executable, str(tmp_path / "orphans.py"), str(t5)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(COMPAT), os.environ.get("PYTHONPATH", "")])}
    script = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True)
    assert script.stdin is not None and script.stdout is not None
    pids = [int(each) for each in script.stdout.readline().split()]
    script.kill()
    script.wait()
    script.stdin.close()
    script.stdout.close()

    assert len(pids) == 2
    eventually(lambda: not any(alive(pid) for pid in pids))


def test_a_saved_checkpoint_is_loaded_by_its_ranks(t5: Path, tmp_path: Path) -> None:
    saved = ft.save_checkpoint(str(t5), 2, 1, str(tmp_path / "saved"), "fp32")
    own = ft.init_inference(saved, 2, 1, "fp32")

    assert own.pipeline_generate(PROMPTS, max_seq_len=9) == expected(t5, 9)
    own.close()


@pytest.mark.parametrize("kind", ["gpt2", "opt", "bloom", "gpt-neox", "gptj"])
def test_the_gpt_family_gives_what_follows_the_prompt(kind: str, tmp_path: Path) -> None:
    family, config = KINDS[kind]
    folder = write_decoder(tmp_path / kind, family, **config)
    reference: Any = decoder_oracle(folder)
    with torch.inference_mode():
        ids = torch.tensor([[5, 7, 1]])
        row = reference.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    own = ft.init_inference(str(folder), 1, 1, "fp32")

    assert own.generate([[5, 7, 1]], output_len=6) == [row[0, 3:].tolist()]
    own.close()


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((1, 7), Ended, "pipeline_parallel_degree 7 is more than 'num_layers' 3"),
        ((1, 1, "fp64"), NotImplementedError, "dtype must be one of fp32, fp16, bf16, int8: got 'fp64'"),
        ((1, 1, "int8"), NotImplementedError, "FasterTransformer had no int8 for T5"),
        ((3, 1), Ended, "heads"),
    ],
)
def test_what_fastertransformer_did_not_have_is_refused(
    t5: Path, arguments: tuple[Any, ...], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        ft.init_inference(str(t5), *arguments)

    assert sentence in str(caught.value)


def test_a_model_that_it_never_had_is_refused_by_name(tmp_path: Path) -> None:
    family, config = KINDS["llama"]
    folder = write_decoder(tmp_path / "llama", family, **config)

    with pytest.raises(ValueError, match=r"llama type not supported for model .*: FasterTransformer had bloom, gpt2"):
        ft.init_inference(str(folder))
    (folder / "serving.properties").write_text("engine=FasterTransformer\n")
    with serving(folder, wait=False) as served:
        code, last = served.end()
    assert code == 1
    assert last.startswith("FasterTransformer never had the model_type 'llama'")


def test_a_script_of_awss_notebooks_runs_as_it_is(t5: Path, tmp_path: Path) -> None:
    properties = f"engine=FasterTransformer\noption.tensor_parallel_degree=2\noption.model_id={t5}\n"
    with serving(write_script(tmp_path / "model", SAMPLE, properties)) as served:
        reply = served.ask({"inputs": PROMPTS, "parameters": {"max_seq_len": 9}})
        wrong = served.ask({"inputs": PROMPTS, "parameters": {"max_seq": 9}})

    assert reply.json() == {"outputs": expected(t5, 9)}
    assert wrong.status_code == 424 and "unknown parameter" in wrong.json()["error"]


def test_a_script_on_mpi_ranks_starts_a_rank_of_the_model_on_each(t5: Path, tmp_path: Path) -> None:
    properties = f"engine=MPI\noption.tensor_parallel_degree=2\noption.model_id={t5}\n"
    with serving(write_script(tmp_path / "model", SAMPLE, properties)) as served:
        reply = served.ask({"inputs": PROMPTS, "parameters": {"max_seq_len": 9}})

    assert reply.json() == {"outputs": expected(t5, 9)}


def test_without_a_script_the_handler_of_lmi_is_the_engine(t5: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    properties = ["engine=FasterTransformer", "option.entryPoint=djl_python.fastertransformer", f"option.model_id={t5}"]
    (folder / "serving.properties").write_text("\n".join([*properties, "option.tensor_parallel_degree=2", ""]))
    with serving(folder) as served:
        reply = served.ask({"inputs": PROMPTS, "parameters": {"max_seq_len": 9, "temperature": 0.7}})

    assert str(expected(t5, 9)[0]) in reply.text
