"""Engine accelerate beside transformers' own generate, with offloaded layers, and on the server; scripts' streams."""

from __future__ import annotations

import json
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import transformers

from djl_python.streaming_utils import StreamingUtils
from heavylift_runtime.engines.accelerate import load
from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.writer import Writer
from heavylift_runtime.errors import LoadError, OptionsError
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.served import serving
from tests.t5_checkpoints import write_t5

pytestmark = pytest.mark.slow

PROMPTS = ["2468", "07", "@@@@@@@"]


def write(folder: Path, kind: str) -> Path:
    if kind == "t5":
        write_t5(folder)
    else:
        family, config = KINDS[kind]
        write_decoder(folder, family, **config)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


def engine(folder: Path, **properties: str) -> Writer:
    options = replace(Options(engine="accelerate"), batch_size=4, properties=properties)
    loaded = load(options, folder, 0, 1, f"file://{folder.parent}/rendezvous")
    assert isinstance(loaded, Writer)
    return loaded


def generated(engine: Writer, sampling: Sampling) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in PROMPTS]
    for key, prompt in enumerate(PROMPTS):
        engine.add(key, Request(prompt, sampling))
    while engine.busy:
        for piece in engine.step():
            rows[piece.key] += [token.id for token in piece.tokens]
    return rows


@torch.inference_mode()
def expected(folder: Path, **settings: Any) -> list[list[int]]:
    """transformers' own answers to each prompt alone."""
    owner = transformers.AutoModelForSeq2SeqLM if "t5" in folder.name else transformers.AutoModelForCausalLM
    model: Any = owner.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    for prompt in PROMPTS:
        tokens = tokenizer(prompt, return_tensors="pt")
        skipped = 1 if model.config.is_encoder_decoder else tokens["input_ids"].shape[1]
        rows.append(model.generate(**tokens, do_sample=False, **settings)[0, skipped:].tolist())
    return rows


@pytest.mark.parametrize("kind", ["t5", "llama", "gpt2", "opt", "bloom", "gpt-neox", "mixtral"])
def test_greedy_tokens_are_transformers_own(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path / kind, kind)

    assert generated(engine(folder), Sampling(10)) == expected(folder, max_new_tokens=10)


@pytest.mark.parametrize(
    ("config", "generation"),
    [
        ({}, None),  # no generation_config.json
        ({"pad_token_id": None}, None),
        ({"pad_token_id": -1}, None),  # as the first Llama's files had it
        ({"eos_token_id": None, "pad_token_id": None, "bos_token_id": None}, None),
        ({}, {"do_sample": True, "temperature": 0.6, "num_beams": 3, "max_length": 4, "forced_eos_token_id": 1}),
        ({}, {"penalty_alpha": 0.6, "top_k": 4}),
        ({}, {"prompt_lookup_num_tokens": 3, "return_dict_in_generate": True, "output_scores": True}),
        ({}, {"dola_layers": "high", "cache_implementation": "static"}),
    ],
)
def test_whatever_a_checkpoints_files_say_or_leave_out_greedy_is_greedy(
    tmp_path: Path, config: dict[str, Any], generation: dict[str, Any] | None
) -> None:
    folder = write(tmp_path / "llama", "llama")
    tokens = expected(folder, max_new_tokens=8, min_new_tokens=8)
    about = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "generation_config.json").unlink()
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "pad_token_id": 0} | generation))

    found = engine(folder)

    assert generated(found, Sampling(8, ignore_eos=True)) == tokens
    assert all(len(row) == 8 for row in generated(found, Sampling(8, num_beams=2, ignore_eos=True)))


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_beam_search_is_transformers_own(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path / kind, kind)
    beams = generated(engine(folder), Sampling(6, num_beams=3, length_penalty=0.5))
    theirs = expected(folder, max_new_tokens=6, num_beams=3, length_penalty=0.5)

    assert beams == [row[: row.index(1) + 1] if 1 in row else row for row in theirs]


def test_layers_that_do_not_fit_are_kept_on_the_disk(tmp_path: Path) -> None:
    folder = write(tmp_path / "llama", "llama")
    offloaded = engine(folder, device_map="auto", max_memory='{"cpu": "12KB"}')

    assert "disk" in set(offloaded._model.hf_device_map.values())
    assert generated(offloaded, Sampling(6)) == expected(folder, max_new_tokens=6)


@pytest.mark.parametrize(
    ("properties", "error", "sentence"),
    [
        ({"task": "feature-extraction"}, LoadError, "generates no text"),
        ({"task": "poetry"}, OptionsError, "option.task must be one of"),
        ({"device_map": "auto", "max_memory": "3"}, LoadError, "option.max_memory must be JSON like"),
        ({"device_map": '{"a'}, LoadError, "option.device_map must be a word or JSON"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_reason(
    tmp_path: Path, properties: dict[str, str], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        engine(write(tmp_path / "llama", "llama"), **properties)

    assert sentence in str(caught.value)


def test_a_step_begins_no_thread_which_may_never_come_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "llama", "llama")
    loaded, theirs = engine(folder), expected(folder, max_new_tokens=10)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert generated(loaded, Sampling(10)) == theirs
    assert generated(loaded, Sampling(10)) == theirs


def test_memory_that_runs_out_in_a_step_is_its_requests_answer_and_the_next_ones_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "llama", "llama")
    loaded = engine(folder)
    whole = type(loaded._model).forward

    def short(*args: Any, **kwargs: Any) -> Any:
        raise MemoryError

    def silent() -> None:
        raise MemoryError  # not even a line for the log

    for key, prompt in enumerate(PROMPTS):
        loaded.add(key, Request(prompt, Sampling(10)))
    first = loaded.step()
    monkeypatch.setattr(type(loaded._model), "forward", short)
    monkeypatch.setattr(traceback, "print_exc", silent)
    failed = loaded.step()
    monkeypatch.setattr(type(loaded._model), "forward", whole)

    assert [piece.error for piece in first] == [None] * 3
    assert [piece.error is not None and piece.error[0] for piece in failed] == [507] * 3
    assert not loaded.busy
    assert generated(loaded, Sampling(10)) == expected(folder, max_new_tokens=10)


def test_layers_are_placed_as_a_map_says(tmp_path: Path) -> None:
    folder = write(tmp_path / "llama", "llama")
    layers = transformers.AutoConfig.from_pretrained(folder).num_hidden_layers
    placed = {f"model.layers.{layer}": "cpu" if layer else "disk" for layer in range(layers)}
    placed |= dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb"), "cpu") | {"lm_head": "disk"}

    loaded = engine(folder, device_map=json.dumps(placed))

    assert loaded._model.hf_device_map == placed
    assert generated(loaded, Sampling(6)) == expected(folder, max_new_tokens=6)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()

    with pytest.raises(LoadError, match="transformers cannot open"):
        engine(tmp_path / "model")


@pytest.mark.parametrize("named", ["engine=Python\noption.entryPoint=djl_python.huggingface", "engine=MPI"])
def test_it_is_served_whole_and_as_a_stream(tmp_path: Path, named: str) -> None:
    folder = write(tmp_path / "llama", "llama")
    (folder / "serving.properties").write_text(f"{named}\noption.rolling_batch=auto\n")
    body = {"inputs": "2468", "parameters": {"max_new_tokens": 6}}

    with serving(folder) as served:
        whole = served.ask(body)
        with httpx.stream("POST", f"{served.address}/invocations", json=body | {"stream": True}, timeout=60) as reply:
            lines = [json.loads(line) for line in reply.iter_lines() if line]

    assert whole.status_code == 200
    text = "".join(line["token"]["text"] for line in lines if "token" in line)
    assert text and text in whole.text


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_scripts_stream_joined_is_the_whole_answer(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path / kind, kind)
    owner = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
    model: Any = owner.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"eos_token": "</s>"})  # as in every published tokenizer
    before = model.generation_config.to_dict()

    stream = StreamingUtils.get_stream_generator("Accelerate")
    steps = list(stream(model, tokenizer, PROMPTS, "cpu", max_new_tokens=10))
    joined = ["".join(column) for column in zip(*steps, strict=True)]

    assert 1 < len(steps) <= 10
    for text, row in zip(joined, expected(folder, max_new_tokens=10), strict=True):
        assert text.split() == tokenizer.decode(row, skip_special_tokens=True).split()
    assert model.generation_config.to_dict() == before
    draws = [list(stream(model, tokenizer, PROMPTS, temperature=2.0, manual_seed=seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    with pytest.raises(NotImplementedError, match="no beam search"):
        next(stream(model, tokenizer, PROMPTS, beam_size=2))
    own = list(StreamingUtils.use_hf_default_streamer(model, tokenizer, PROMPTS, max_new_tokens=10, do_sample=False))
    assert len(own) > 1
    assert ["".join(column).split() for column in zip(*own, strict=True)] == [text.split() for text in joined]
    with pytest.raises(ValueError, match="model_kwargs"):
        list(StreamingUtils.use_hf_default_streamer(model, tokenizer, PROMPTS, no_such_thing=1))
