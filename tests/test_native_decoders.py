"""The decoder-only families against transformers on the same checkpoints: logits and greedy tokens at every degree."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.decoder_checkpoints import KINDS, continuation, gap, logits_of, oracle, write_decoder
from tests.native_cores import answers_of, core_of, forced_logits, model_on
from tests.rank_threads import on_ranks

PROMPTS = [[5, 9, 33, 21, 7, 2], [12], [40, 41, 8, 3, 55, 9, 9, 9, 30, 28, 27, 4, 6, 18, 19, 20, 22, 23, 11], [3, 2]]
FORCED = torch.randint(2, 60, (4, 23), generator=torch.Generator().manual_seed(3))
CLOSE = 1e-4
"""Two logits nearer than this are a tie, which rounding decides."""


class Written(NamedTuple):
    """A checkpoint, and transformers' model of it."""

    folder: Path
    theirs: Any


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    @cache
    def write(kind: str) -> Written:
        family, config = KINDS[kind]
        folder = write_decoder(tmp_path_factory.mktemp(kind), family, **config)
        return Written(folder, oracle(folder))

    return write


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def degrees(kind: str) -> list[int]:
    return [1, 2, 3] if kind == "bloom-six-heads" else [1, 2, 4]


CASES = [(kind, world) for kind in KINDS for world in degrees(kind)]


@pytest.mark.parametrize(("kind", "world"), CASES)
def test_logits_are_those_of_transformers(written: Callable[[str], Written], kind: str, world: int) -> None:
    folder, theirs = written(kind)
    texts = [logits_of(theirs, [*prompt, *row]) for prompt, row in zip(PROMPTS, FORCED.tolist(), strict=True)]

    ranks = on_ranks(world, lambda group: forced_logits(model_on(folder, group), PROMPTS, FORCED))

    for prompts, steps in ranks:
        assert torch.equal(prompts, ranks[0][0]) and torch.equal(steps, ranks[0][1])
        read = torch.cat([text[: len(prompt)] for text, prompt in zip(texts, PROMPTS, strict=True)])
        torch.testing.assert_close(prompts, read, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(steps, torch.stack([text[-23:] for text in texts]), atol=1e-4, rtol=1e-4)


RARE = {
    "gpt2": ("GPT2", {**KINDS["gpt2"][1], "activation_function": "quick_gelu"}),
    "opt": ("OPT", {**KINDS["opt"][1], "activation_function": "gelu_python"}),
    "llama": ("Llama", {**KINDS["llama"][1], "hidden_act": "relu2"}),
    "qwen2": ("Qwen2", {**KINDS["qwen2"][1], "hidden_act": "quick_gelu"}),
    "gpt-neox": ("GPTNeoX", {**KINDS["gpt-neox"][1], "hidden_act": "gelu_accurate"}),
}


@pytest.mark.parametrize("kind", RARE)
def test_rare_activations_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    family, config = RARE[kind]
    folder = write_decoder(tmp_path, family, **config)
    texts = [logits_of(oracle(folder), [*prompt, *row]) for prompt, row in zip(PROMPTS, FORCED.tolist(), strict=True)]

    _, steps = forced_logits(model_on(folder), PROMPTS, FORCED)

    torch.testing.assert_close(steps, torch.stack([text[-23:] for text in texts]), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_are_those_of_transformers(
    written: Callable[[str], Written], kind: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    folder, theirs = written(kind)
    expected = [continuation(theirs, prompt, 30) for prompt in PROMPTS]
    ties = 0

    for world in degrees(kind):
        ranks = on_ranks(world, lambda group: answers_of(core_of(model_on(folder, group)), PROMPTS, [30] * 4))

        assert all(answers == ranks[0] for answers in ranks)
        for prompt, answer, tokens in zip(PROMPTS, ranks[0], expected, strict=True):
            pairs = enumerate(zip(answer.tokens, tokens, strict=False))
            differs = next((place for place, (ours, other) in pairs if ours != other), None)
            if differs is not None:
                assert gap(theirs, [*prompt, *tokens[:differs]]) < CLOSE
                ties += 1
                continue
            assert answer.tokens == tokens
            assert answer.finish_reason == ("eos_token" if tokens[-1] == 1 else "length")
    record_testsuite_property(f"near-ties of {kind}", ties)
    assert ties <= len(PROMPTS), "so many near-ties are no chance"
