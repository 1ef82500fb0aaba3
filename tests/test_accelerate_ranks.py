"""Engine accelerate over two ranks, by transformers' own plans (`tp_plan`): the same tokens, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from heavylift_runtime.engines.engine import Request, Sampling
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.errors import LoadError, PromptError
from tests.split_ranks import expected, greedy, loaded, write
from tests.t5_checkpoints import write_t5

pytestmark = pytest.mark.slow

SPLIT = ("llama", "llama-tied-wide-biased", "mistral-window", "qwen2", "qwen3", "mixtral", "gpt-neox")


@pytest.mark.parametrize("kind", SPLIT)
def test_two_ranks_give_transformers_own_tokens(kind: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", kind)

    with loaded("accelerate", folder, 2) as engine:
        tokens = greedy(engine)

    assert tokens == expected(folder)


def test_a_rank_holds_its_part_of_each_layer_only(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "llama")
    whole = transformers.AutoModelForCausalLM.from_pretrained(folder).model.layers.state_dict()

    with loaded("accelerate", folder, 2) as engine:
        parts = engine._writer._model.model.layers.state_dict()  # type: ignore[attr-defined]  # nothing shows it
        held = {name: part.to_local() if hasattr(part, "to_local") else part for name, part in parts.items()}

    matrices = [name for name, tensor in whole.items() if tensor.ndim == 2]
    assert matrices and all(2 * held[name].numel() == whole[name].numel() for name in matrices)


def test_the_registry_names_what_was_seen_to_be_split_and_transformers_has_a_plan_for_it() -> None:
    for family in ENGINES["accelerate"].split_families:
        assert transformers.AutoConfig.for_model(family).base_model_tp_plan, family


@pytest.mark.parametrize(
    ("kind", "world", "given", "fault"),
    [
        ("t5", 2, {}, "was not seen to divide model_type 't5' over ranks, but gpt_neox, llama, "),
        ("opt", 2, {}, "was not seen to divide model_type 'opt'"),
        ("llama", 2, {"device_map": "auto"}, "option.device_map places layers from one process"),
        ("llama", 4, {}, "option.tensor_parallel_degree=4 must divide the model's 2 heads of keys"),
        ("llama", 2, {"task": "feature-extraction"}, "generates no text: set option.task"),
    ],
)
def test_what_cannot_be_split_is_refused_before_the_ranks_meet(
    kind: str, world: int, given: dict[str, str], fault: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    if kind == "t5":
        write_t5(folder)
    else:
        write(folder, kind)

    with pytest.raises(LoadError, match=fault), loaded("accelerate", folder, world, **given):
        pass


def test_a_beam_search_over_ranks_is_refused_and_the_ranks_stay_in_step(tmp_path: Path) -> None:
    folder = write(tmp_path / "model", "llama")

    with loaded("accelerate", folder, 2) as engine:
        with pytest.raises(PromptError, match="has no beam search on 2 ranks: got num_beams=2"):
            engine.add(0, Request((5, 9), Sampling(3, num_beams=2)))

        assert greedy(engine, 4) == expected(folder, 4)
