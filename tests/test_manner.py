"""What generation_config.json says of choosing tokens: followed as transformers' generate does, unless a request or the
options say otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.errors import LoadError, OptionsError
from heavylift_runtime.manner import Manner, Rules
from heavylift_runtime.options import Options
from heavylift_runtime.server.defaults import defaults_of
from heavylift_runtime.server.schemas import read
from tests import decoder_checkpoints, t5_checkpoints

PROMPTS = [[5, 9, 33, 21, 7, 1], [12, 1], [40, 41, 8, 3, 55, 9, 9, 9, 30, 1]]
MOST = 14
SAID: dict[str, dict[str, Any]] = {
    "repetition_penalty": {"repetition_penalty": 1.7},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "no token twice": {"no_repeat_ngram_size": 1},
    "min_length": {"min_length": 12, "eos_token_id": list(range(1, 40))},
    "min_new_tokens": {"min_new_tokens": 9, "eos_token_id": list(range(1, 40))},
    "forced": {"forced_bos_token_id": 17, "forced_eos_token_id": 1},
    "suppressed": {"suppress_tokens": list(range(20, 60)), "begin_suppress_tokens": list(range(2, 14))},
    "first after a forced one": {"forced_bos_token_id": 17, "begin_suppress_tokens": list(range(2, 60))},
    "all": {"repetition_penalty": 1.4, "no_repeat_ngram_size": 3, "suppress_tokens": [49], "forced_eos_token_id": 1},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["t5", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(request.param) / "model"
    if request.param == "t5":
        return t5_checkpoints.write_t5(made)
    family, config = decoder_checkpoints.KINDS["llama"]
    return decoder_checkpoints.write_decoder(made, family, **config)


def say(folder: Path, **settings: Any) -> None:
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0} | settings)
    )


def asked(folder: Path, options: Options = Options(), **parameters: Any) -> Sampling:  # noqa: B008  # frozen
    """What a request with these parameters asks of the engine."""
    body = json.dumps({"inputs": "a", "parameters": parameters}).encode()
    return read("/invocations", {}, body, defaults_of("model", folder, options)).requests[0].sampling


def answers(folder: Path, sampling: Sampling, options: Options = Options()) -> list[list[int]]:  # noqa: B008  # frozen
    engine = load(replace(options, batch_size=3), folder, 0, 1, "")
    found: dict[int, list[int]] = {key: [] for key in range(len(PROMPTS))}
    for key, prompt in enumerate(PROMPTS):
        engine.add(key, Request(tuple(prompt), sampling))
    while engine.busy:
        for piece in engine.step():
            assert piece.error is None
            found[piece.key] += [token.id for token in piece.tokens]
    engine.close()
    return list(found.values())


def expected(folder: Path, **settings: Any) -> list[list[int]]:
    """transformers', each prompt alone."""
    encodes = "T5" in json.loads((folder / "config.json").read_text())["architectures"][0]
    model: Any = (t5_checkpoints if encodes else decoder_checkpoints).oracle(folder)
    found = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        tokens = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=MOST, **settings)[0].tolist()
        found.append(tokens[1 if encodes else len(prompt) :])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_a_request_that_says_nothing_gets_the_tokens_of_transformers_generate(
    folder: Path, said: dict[str, Any]
) -> None:
    say(folder)
    plain = expected(folder)
    say(folder, **said)

    found = answers(folder, asked(folder, max_new_tokens=MOST))

    assert found == expected(folder) != plain


@pytest.mark.slow
def test_beams_follow_it_too(folder: Path) -> None:
    say(folder, no_repeat_ngram_size=2, suppress_tokens=[49, 7], length_penalty=0.5)

    found = answers(folder, asked(folder, max_new_tokens=MOST, num_beams=3))

    assert found == expected(folder, num_beams=3, early_stopping=False)


@pytest.mark.slow
def test_the_request_wins_and_the_option_leaves_the_file_unread(folder: Path) -> None:
    say(folder)
    plain = expected(folder)
    say(folder, repetition_penalty=1.7, no_repeat_ngram_size=2)
    unread = Options(properties={"generation_config": "vllm"})

    assert asked(folder).repetition_penalty == 1.7
    assert asked(folder, repetition_penalty=1.2).repetition_penalty == 1.2
    assert asked(folder, unread) == Sampling(64)
    assert answers(folder, asked(folder, unread, max_new_tokens=MOST), unread) == plain


def test_whether_tokens_are_drawn_is_the_requests_and_how_the_checkpoints(folder: Path) -> None:
    drawn = {"temperature": 0.6, "top_k": 20, "top_p": 0.9, "min_p": 0.05}
    say(folder, do_sample=True, **drawn)

    assert asked(folder).temperature == 0
    assert asked(folder, do_sample=True) == Sampling(64, **drawn)
    assert asked(folder, do_sample=True, top_k=-1, temperature=1.5) == Sampling(
        64, **drawn | {"top_k": 0, "temperature": 1.5}
    )
    chat = read(
        "/v1/completions", {}, b'{"prompt": "a", "max_tokens": 64, "top_p": 1}', defaults_of("model", folder, Options())
    )
    assert chat.requests[0].sampling == Sampling(64, **drawn | {"top_p": 1.0})
    script = Options(engine="fastertransformer")
    assert asked(folder, script, do_sample=True).temperature == 1


def test_without_the_file_it_is_config_json_as_in_transformers(folder: Path) -> None:
    say(folder)
    (folder / "generation_config.json").unlink()
    before = (folder / "config.json").read_text()
    (folder / "config.json").write_text(json.dumps(json.loads(before) | {"repetition_penalty": 1.3}))

    assert asked(folder).repetition_penalty == 1.3

    (folder / "config.json").write_text(before)


def test_every_fault_is_told_at_the_start(folder: Path) -> None:
    say(folder, temperature="warm", top_k=-1, suppress_tokens=7, min_length=True, forced_eos_token_id=[1])
    with pytest.raises(OptionsError) as refused:
        asked(folder)
    assert str(refused.value).splitlines() == [
        "generation_config.json: 'temperature' must be a number from 0 to 100: got 'warm'",
        "generation_config.json: 'top_k' must be a whole number from 0: got -1",
    ]
    with pytest.raises(
        LoadError, match="'suppress_tokens' must be a list of tokens, whole numbers from 0: got 7"
    ) as told:
        load(Options(), folder, 0, 1, "")
    assert "'min_length' must be a whole number from 0: got True" in str(told.value)
    say(folder, suppress_tokens=[5, 900])
    with pytest.raises(LoadError, match="names the token 900, and the model knows"):
        load(Options(), folder, 0, 1, "")
    with pytest.raises(OptionsError, match="must be 'auto', which follows"):
        asked(folder, Options(properties={"generation_config": "/some/folder"}))


def test_settings_that_ask_for_nothing_are_nothing() -> None:
    assert Manner.of({"temperature": None, "eos_token_id": 1}) == Manner()
    assert not Rules.of({"no_repeat_ngram_size": 0, "min_length": 0, "suppress_tokens": []}).bind
