"""The decoder-only families against transformers on the same checkpoints: logits and greedy tokens at every degree."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from heavylift_runtime.families.table import Family
from heavylift_runtime.native.architectures import decoder, model_of
from heavylift_runtime.native.architectures.decoder import Decoder
from heavylift_runtime.native.batch import Batch
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.distributed import Alone, Group
from heavylift_runtime.native.generate import Answer, greedy
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.sources import Folder
from tests.decoder_checkpoints import KINDS, continuation, gap, logits_of, oracle, write_decoder
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


def model_on(folder: Path, group: Group, dtype: torch.dtype = torch.float32) -> Decoder:
    checkpoint = Checkpoint.open(Folder(folder))
    family: Family = checkpoint.family
    assert family.check(checkpoint.config, group.world) == []
    with Loader(checkpoint, group.rank, group.world, dtype) as loader:
        model = model_of(checkpoint.config, loader, group)
    assert isinstance(model, Decoder)
    return model


def forced_logits(model: Decoder, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Of all tokens of PROMPTS, (N, V), and then at each of `tokens` (B, T), which are what follows: (B, T, V)."""
    batch = Batch.of(PROMPTS, [1] * len(PROMPTS), 0)
    counts = batch.lengths.tolist()
    prompts = model.scores(model.read(batch.ids, counts, model.cache(counts)))
    decoding = model.begin(batch.ids, batch.lengths, 0)
    steps = [model.vocabulary.logits(decoding.forward(model.vocabulary.embed(column))) for column in tokens.unbind(1)]
    return prompts, torch.stack(steps, 1)


def answers_of(model: Decoder, prompts: list[list[int]], limits: list[int]) -> list[Answer]:
    batch = Batch.of(prompts, limits, 0)
    return greedy(model.begin(batch.ids, batch.lengths, 0), limits, {1})


@pytest.mark.parametrize(("kind", "world"), CASES)
def test_logits_are_those_of_transformers(written: Callable[[str], Written], kind: str, world: int) -> None:
    folder, theirs = written(kind)
    texts = [logits_of(theirs, [*prompt, *row]) for prompt, row in zip(PROMPTS, FORCED.tolist(), strict=True)]

    ranks = on_ranks(world, lambda group: forced_logits(model_on(folder, group), FORCED))

    for prompts, steps in ranks:
        assert torch.equal(prompts, ranks[0][0]) and torch.equal(steps, ranks[0][1])
        read = torch.cat([text[: len(prompt)] for text, prompt in zip(texts, PROMPTS, strict=True)])
        torch.testing.assert_close(prompts, read, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(steps, torch.stack([text[-23:] for text in texts]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_are_those_of_transformers(
    written: Callable[[str], Written], kind: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    folder, theirs = written(kind)
    expected = [continuation(theirs, prompt, 30) for prompt in PROMPTS]
    ties = 0

    for world in degrees(kind):
        ranks = on_ranks(world, lambda group: answers_of(model_on(folder, group), PROMPTS, [30] * 4))

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


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_gets_the_same_answer_in_any_company(written: Callable[[str], Written], kind: str) -> None:
    limits = [33, 2, 20, 7]
    with torch.inference_mode():
        model = model_on(written(kind).folder, Alone())

        together = answers_of(model, PROMPTS, limits)

        alone = [answers_of(model, [prompt], [limit])[0] for prompt, limit in zip(PROMPTS, limits, strict=True)]
    assert together == alone


@pytest.mark.parametrize("kind", ["llama", "bloom"])
def test_prompts_that_are_read_in_portions_get_the_same_answers(
    written: Callable[[str], Written], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.inference_mode():
        model = model_on(written(kind).folder, Alone())
        at_once = answers_of(model, PROMPTS, [12] * 4)
        monkeypatch.setattr(decoder, "PORTION", 7)  # the first two, the third, the last

        in_portions = answers_of(model, PROMPTS, [12] * 4)

    assert in_portions == at_once
