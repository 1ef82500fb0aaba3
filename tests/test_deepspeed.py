"""DeepSpeed beyond the conformance suite: two ranks give transformers' own tokens, files ahead of time, int8, refusals.

`make test-deepspeed` runs it, in DeepSpeed's own environment.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from heavylift_runtime.engines.engine import Engine
from heavylift_runtime.errors import LoadError
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.split_ranks import expected, greedy, write
from tests.split_ranks import loaded as loaded_by

pytest.importorskip("deepspeed", reason="engine deepspeed has an environment of its own: make test-deepspeed")

pytestmark = pytest.mark.slow

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


def loaded(folder: Path, world: int, **given: str) -> AbstractContextManager[Engine]:
    return loaded_by("deepspeed", folder, world, **given)


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
