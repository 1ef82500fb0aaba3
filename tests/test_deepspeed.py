"""DeepSpeed beyond the conformance suite: two ranks give transformers' own tokens, files ahead of time, int8, refusals.

`make test-deepspeed` runs it, in DeepSpeed's own environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import KINDS, continuation, oracle, write_decoder

pytest.importorskip("deepspeed", reason="engine deepspeed has an environment of its own: make test-deepspeed")
from heavylift_runtime.engines.deepspeed import DeepSpeedEngine, load

pytestmark = pytest.mark.slow

PROMPTS = [[5, 9, 33, 21, 7, 2], [12], [40, 41, 8, 3, 55, 9, 9, 9, 30, 28, 27, 4, 6]]
SPLIT = (
    "llama-tied-wide-biased",
    "llama-3.1",
    "mistral-window",
    "qwen2",
    "qwen3",
    "mixtral",
    "gptj",
    "gpt-neox",
    "opt",
)


def write(folder: Path, kind: str) -> Path:
    family, config = KINDS[kind]
    write_decoder(folder, family, **{**config, "num_key_value_heads": 2} if kind == "qwen3" else config)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return folder


@contextmanager
def loaded(folder: Path, world: int, **given: str) -> Iterator[DeepSpeedEngine]:
    """Rank 0 here, the others as processes that end with it."""
    torch.set_num_threads(1)
    meeting = f"file://{folder.parent}/meeting-{folder.name}-{world}-{len(given)}"
    quantize, dtype = given.pop("quantize", "none"), given.pop("dtype", "auto")
    options = replace(Options(engine="deepspeed"), batch_size=4, tensor_parallel_degree=world, properties=given)
    options = replace(options, quantize=quantize, dtype=dtype)
    command = [sys.executable, "-m", "tests.follower", "deepspeed", str(folder)]
    others = [
        subprocess.Popen([*command, str(rank), str(world), meeting, json.dumps(given)]) for rank in range(1, world)
    ]
    try:
        engine = load(options, folder, 0, world, meeting)
        yield engine
        engine.close()
        assert [each.wait(60) for each in others] == [0] * len(others)
    finally:
        for each in others:
            each.kill()
            each.wait()


def greedy(engine: DeepSpeedEngine, count: int = 20) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in PROMPTS]
    for key, prompt in enumerate(PROMPTS):
        engine.add(key, Request(tuple(prompt), Sampling(count)))
    while engine.busy:
        for piece in engine.step():
            assert piece.error is None
            found[piece.key] += [token.id for token in piece.tokens]
    return found


def expected(folder: Path, count: int = 20) -> list[list[int]]:
    model = oracle(folder)
    return [continuation(model, prompt, count) for prompt in PROMPTS]


@pytest.mark.parametrize("kind", SPLIT)
def test_two_ranks_of_deepspeed_give_transformers_own_tokens(kind: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", kind)

    with loaded(folder, 2) as engine:
        assert greedy(engine) == expected(folder)


def test_deepspeed_reads_what_it_split_ahead_of_time_and_nothing_else(tmp_path: Path) -> None:
    whole, ready = write(tmp_path / "model", "llama-tied-wide-biased"), tmp_path / "ready"
    with loaded(whole, 2, save_mp_checkpoint_path=str(ready)) as engine:
        answers = greedy(engine)
    names = {path.name for path in ready.iterdir()}

    assert names >= {"config.json", "tokenizer.json", "ds_inference_config.json", "serving.properties"}
    assert {name for name in names if name.endswith(".safetensors")} == {"tp_00_00.safetensors", "tp_01_00.safetensors"}
    with loaded(ready, 2, checkpoint="ds_inference_config.json") as engine:
        assert greedy(engine) == answers == expected(whole)


def test_deepspeed_refuses_files_of_another_split_with_every_fault(tmp_path: Path) -> None:
    whole, ready = write(tmp_path / "model", "llama"), tmp_path / "ready"
    with loaded(whole, 1, save_mp_checkpoint_path=str(ready)):
        pass
    said = json.loads((ready / "ds_inference_config.json").read_text())
    (ready / "wrong.json").write_text(json.dumps({**said, "type": "t5", "tp_size": 2, "dtype": "float64"}))

    for name, faults in {
        "wrong.json": ["is of the model_type 't5'", "is for 2 ranks", "is in float64"],
        "../model/config.json": ["must be a file in the model's folder"],
        "config.json": ["is no description of split weights"],
        "none.json": ["is no description of split weights"],
    }.items():
        with pytest.raises(LoadError) as caught, loaded(ready, 1, checkpoint=name):
            pass

        assert all(fault in str(caught.value) for fault in faults), caught.value


def test_deepspeed_notices_a_rank_s_file_that_is_cut_short(tmp_path: Path) -> None:
    whole, ready = write(tmp_path / "model", "llama"), tmp_path / "ready"
    with loaded(whole, 1, save_mp_checkpoint_path=str(ready)):
        pass
    file = ready / "tp_00_00.safetensors"
    file.write_bytes(file.read_bytes()[:-8])

    cut = pytest.raises(LoadError, match=r"cannot read .*tp_00_00\.safetensors")
    with cut, loaded(ready, 1, checkpoint="ds_inference_config.json"):
        pass


def test_deepspeed_rounds_one_rank_s_layers_to_8_bits(tmp_path: Path) -> None:
    config = {**KINDS["llama"][1], "hidden_size": 64, "intermediate_size": 128}
    folder = write_decoder(tmp_path / "model", "Llama", **config)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')

    with loaded(folder, 1, quantize="int8") as engine:
        answers = greedy(engine, 6)

    same = sum(a == b for pair in zip(answers, expected(folder, 6), strict=True) for a, b in zip(*pair, strict=False))
    assert same >= 9  # of 18; a wrong scale would leave hardly one


@pytest.mark.parametrize(
    ("kind", "world", "given", "fault"),
    [
        ("gpt2", 2, {}, "was not seen to split gpt2 rightly"),
        ("bloom", 2, {}, "leaves the heads' biases whole"),
        ("llama", 4, {}, "the model has 2 heads of keys: every rank needs one, use at most 2"),
        ("llama", 2, {"quantize": "int8"}, "rounds decoder-only models of one rank in fp16"),
        ("llama", 1, {"deepspeed_config_path": "ds.json"}, "keep one cache for all requests"),
        ("llama", 1, {"deepspeed_config_path": "no.json"}, "must be a file of the model with JSON"),
        ("llama", 1, {"save_mp_checkpoint_path": "s3://bucket/x"}, "must be a folder of this machine"),
    ],
)
def test_deepspeed_says_what_it_cannot_do(
    kind: str, world: int, given: dict[str, str], fault: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "model", kind)
    (folder / "ds.json").write_text('{"replace_with_kernel_inject": true}')

    with pytest.raises(LoadError, match=fault), loaded(folder, world, **given):
        pass
