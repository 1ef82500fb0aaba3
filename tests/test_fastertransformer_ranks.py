"""FasterTransformer's workflow for each of its families: files for each rank, loaded by the ranks, streamed; BERT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

import fastertransformer as ft
from heavylift.errors import InputError
from heavylift.plan.demand import Demand
from heavylift_runtime.engines import fastertransformer
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.decoder_checkpoints import oracle as decoder_oracle
from tests.locked import lock_of, spec_of
from tests.t5_checkpoints import oracle, write_t5

PROMPT = [5, 7, 1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "gpt2", "opt", "bloom", "gpt-neox", "gptj"])
def test_each_rank_loads_its_own_file_and_streams_what_transformers_says(kind: str, tmp_path: Path) -> None:
    folder, length = tmp_path / "model", "max_seq_len" if kind == "t5" else "output_len"
    if kind == "t5":
        write_t5(folder)
    else:
        family, config = KINDS[kind]
        write_decoder(folder, family, **config)
    saved = Path(ft.save_checkpoint(str(folder), 2, 1, str(tmp_path / "saved"), "fp32"))

    own = ft.init_inference(str(saved), 2, 1, "fp32")
    tokens = own.generate([PROMPT], **{length: 8})
    whole = own.pipeline_generate(["2468", "A"], **{length: 8})
    parts = list(own.stream_generate(["2468", "A"], **{length: 8}))
    own.close()

    assert {path.name for path in saved.glob("rank-*")} == {f"rank-00{rank}-of-002.safetensors" for rank in range(2)}
    assert tokens == [expected(folder, kind)]
    assert ["".join(column) for column in zip(*parts, strict=True)] == whole


@torch.inference_mode()
def expected(folder: Path, kind: str) -> list[int]:
    """transformers' greedy tokens, without the mark of the end."""
    reference: Any = oracle(folder) if kind == "t5" else decoder_oracle(folder)
    ids = torch.tensor([PROMPT])
    row = reference.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    tokens: list[int] = row[0, 1 if kind == "t5" else len(PROMPT) :].tolist()
    return tokens


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=61, **sizes)).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_an_encoder_is_refused_in_fastertransformers_name(bert: Path) -> None:
    sentence = "FasterTransformer never had encoders, and model_type 'bert' is one: engine accelerate"

    with pytest.raises(ValueError, match=sentence):
        ft.init_inference(str(bert))
    with pytest.raises(LoadError, match=sentence):
        fastertransformer.load(Options(), bert, 0, 1, "file:///nowhere")


@pytest.mark.parametrize(
    ("engine", "family", "sentence"),
    [
        ("fastertransformer", "bert", "engine fastertransformer never had encoders, and model_type 'bert' is one"),
        ("fastertransformer", "llama", "engine fastertransformer has no model_type 'llama': it has bloom, gpt2"),
        ("neuronx", "t5", "engine neuronx has no model_type 't5': it has bloom"),
    ],
)
def test_a_model_that_an_engine_does_not_have_is_refused_at_synthesis(engine: str, family: str, sentence: str) -> None:
    lock = lock_of(None, size=10**6)
    known = replace(lock.model, config={"model_type": family})
    instance = {"neuronx": "ml.inf2.xlarge"}.get(engine, "ml.m5.large")

    with pytest.raises(InputError, match=sentence):
        Demand.of(spec_of(engine=engine, instance_type=instance), replace(lock, model=known))
