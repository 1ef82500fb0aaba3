"""vLLM beyond the conformance suite: bound answers, speculation, cached prompts, several ranks, its own arguments.

`make test-vllm` runs it, in vLLM's own environment. LoRA adapters: test_adapters_vllm.py.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="engine vllm has an environment of its own: make test-vllm")

import torch
import transformers

from heavylift_runtime.engines.engine import Engine, Form, Request, Sampling
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.errors import LoadError, PromptError
from heavylift_runtime.options import Options
from tests.decoder_checkpoints import KINDS, write_decoder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = Path(__file__).parent.parent / "models" / "tiny-llama"
PROMPTS = ("write in words: 234", "write as a Roman numeral: 41", "write in words: 1777")
CACHE = {"enforce_eager": "true", "kv_cache_memory_bytes": "268435456"}
SCHEMA = {
    "type": "object", "required": ["a", "b"], "additionalProperties": False,
    "properties": {"a": {"enum": [1, 22, 333]}, "b": {"enum": ["x", "y"]}},
}  # fmt: skip
GRAMMAR = 'root ::= "(" digit "+" digit ")"\ndigit ::= "1" | "2"'


@contextmanager
def loaded(folder: Path = MODEL, degree: int = 1, stages: int = 1, **given: str) -> Iterator[Engine]:
    """`given`: option.*, as in serving.properties."""
    asked = {f"option.{name}": value for name, value in (CACHE | given).items()}
    asked |= {"engine": "Python", "option.entryPoint": "djl_python.vllm", "option.max_rolling_batch_size": "4"}
    asked |= {"option.tensor_parallel_degree": str(degree), "option.pipeline_parallel_degree": str(stages)}
    options = Options.parse({"option.dtype": "fp32"} | asked, {})
    engine: Engine = importlib.import_module(ENGINES["vllm"].module).load(options, folder, 0, 1, "file:///nowhere/x")
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def plain() -> Iterator[Engine]:
    with loaded() as engine:
        yield engine


def texts(engine: Engine, sampling: Sampling, prompts: tuple[str, ...] = PROMPTS) -> list[str]:
    found = dict.fromkeys(range(len(prompts)), "")
    for key, prompt in enumerate(prompts):
        engine.add(key, Request(prompt, sampling))
    while engine.busy:
        for piece in engine.step():
            found[piece.key] += "".join(token.text for token in piece.tokens)
    return [found[key].strip() for key in found]


@cache
def expected() -> list[str]:
    """transformers' own answers."""
    torch.set_num_threads(1)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(MODEL)
    answers = []
    for prompt in PROMPTS:
        given = tokenizer(prompt, return_tensors="pt")
        made = model.generate(**given, max_new_tokens=24, do_sample=False)
        answers.append(tokenizer.decode(made[0][given["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    return answers


def counted(engine: Engine, name: str) -> float:
    """One of vLLM's own counters, of all engines of this process."""
    metrics = engine._engine.get_metrics()  # type: ignore[attr-defined]  # the seam has no such thing
    return sum(metric.value for metric in metrics if metric.name == name and hasattr(metric, "value"))


def test_an_answer_is_bound_to_a_json_schema(plain: Engine) -> None:
    for answer in texts(plain, Sampling(200, temperature=1.0, seed=3, form=Form("json_schema", json.dumps(SCHEMA)))):
        found = json.loads(answer)

        assert set(found) == {"a", "b"}
        assert found["a"] in (1, 22, 333) and found["b"] in ("x", "y")


def test_an_answer_is_bound_to_a_regular_expression_a_grammar_or_a_choice(plain: Engine) -> None:
    drawn = Sampling(32, temperature=1.0, seed=5)

    by_regex = texts(plain, replace(drawn, form=Form("regex", "[0-9]{3}-[a-c]{2}")))
    by_grammar = texts(plain, replace(drawn, form=Form("grammar", GRAMMAR)))
    by_choice = texts(plain, replace(drawn, form=Form("choice", '["yes", "no", "never"]')))

    assert all(re.fullmatch("[0-9]{3}-[a-c]{2}", answer) for answer in by_regex), by_regex
    assert all(re.fullmatch(r"\([12]\+[12]\)", answer) for answer in by_grammar), by_grammar
    assert all(answer in ("yes", "no", "never") for answer in by_choice), by_choice


def test_bound_and_free_answers_run_beside_each_other(plain: Engine) -> None:
    plain.add(0, Request(PROMPTS[0], Sampling(24)))
    plain.add(1, Request(PROMPTS[0], Sampling(24, form=Form("choice", '["yes", "no"]'))))
    found = {0: "", 1: ""}
    while plain.busy:
        for piece in plain.step():
            found[piece.key] += "".join(token.text for token in piece.tokens)

    assert found[0].strip() == expected()[0]
    assert found[1] in ("yes", "no")


@pytest.mark.parametrize(
    "form",
    [
        Form("regex", "(["),
        Form("grammar", "root ::= nowhere"),
        Form("json_schema", '{"type": "no such type"}'),
    ],
)
def test_a_form_that_nothing_can_have_is_refused_before_anything_is_computed(plain: Engine, form: Form) -> None:
    with pytest.raises(PromptError):
        plain.add(0, Request("a", Sampling(5, form=form)))

    assert not plain.busy


def test_a_draft_model_gives_the_same_tokens_in_fewer_passes() -> None:
    with loaded(speculative_draft_model=str(MODEL), speculative_length="3", disable_log_stats="false") as engine:
        before = counted(engine, "vllm:spec_decode_num_accepted_tokens")
        answers = texts(engine, Sampling(24))
        accepted = counted(engine, "vllm:spec_decode_num_accepted_tokens") - before

    assert answers == expected()
    assert accepted > 10  # the draft is the model itself


def test_a_prompt_that_was_read_before_is_not_read_again() -> None:
    long = ("write in words: 234 and then " * 4 + PROMPTS[0],)

    with loaded(enable_prefix_caching="true", block_size="32", disable_log_stats="false") as engine:
        first = texts(engine, Sampling(12), long)
        before = counted(engine, "vllm:prefix_cache_hits")
        second = texts(engine, Sampling(12), long)
        hits = counted(engine, "vllm:prefix_cache_hits") - before

    assert first == second
    assert hits >= 32


def test_two_parts_of_vllm_give_transformers_own_tokens() -> None:
    with loaded(degree=2) as engine:
        assert texts(engine, Sampling(24)) == expected()


def test_stages_which_vllm_does_not_have_on_processors_are_refused() -> None:
    with pytest.raises(LoadError, match="no stages on processors"), loaded(stages=2):
        pass


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"no_such_argument": "1"}, "option.no_such_argument is no argument of the installed vLLM"),
        ({"tensor_parallel_size": "2"}, "option.tensor_parallel_size is option.tensor_parallel_degree here"),
        ({"max_num_seqs": "2", "quantization_": "x"}, "option.max_num_seqs is option.max_rolling_batch_size here"),
        ({"load_format": "nonsense"}, "vLLM cannot load"),
        ({"speculative_config": "no JSON"}, "vLLM cannot load"),
        ({"speculative_length": "three"}, "option.speculative_length must be a whole number from 1: got 'three'"),
        ({"speculative_config": "{}", "speculative_length": "3"}, "option.speculative_config says all of the spec"),
    ],
)
def test_what_this_vllm_does_not_have_is_refused_by_name(given: dict[str, str], fault: str) -> None:
    with pytest.raises(LoadError, match=fault), loaded(**given):
        pass


def test_a_model_that_vllm_does_not_have_is_refused(tmp_path: Path) -> None:
    family, config = KINDS["llama"]
    folder = write_decoder(tmp_path / "model", family, **config)
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | {"architectures": ["NobodysForCausalLM"]}))

    with pytest.raises(LoadError, match="vLLM cannot load"), loaded(folder):
        pass


def test_the_registrys_families_are_vllms() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from vllm import ModelRegistry

    spelled_otherwise = {"phimoe": "PhiMoEForCausalLM", "mistral3": "Mistral3ForConditionalGeneration"}
    known = ModelRegistry.get_supported_archs()
    for family in ENGINES["vllm"].families:
        assert spelled_otherwise.get(family, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(family)) in known, family


def test_speculation_by_the_prompts_own_words_gives_the_same_tokens() -> None:
    """The last one: numba, which this brings, has objects that vLLM's next start in the same process stumbles over."""
    how = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3, "prompt_lookup_min": 1}

    with loaded(speculative_config=json.dumps(how), disable_log_stats="false") as engine:
        answers = texts(engine, Sampling(24))
        drafted = counted(engine, "vllm:spec_decode_num_draft_tokens")

    assert answers == expected()
    assert drafted > 0
