"""Random shapes, ragged batches, odd degrees: the native engine against transformers on models that nobody chose.

Not the matrix of architectures, stages and files (test_native_matrix.py): here ranks are threads, and what varies is
the sizes: heads, key-value heads, head widths, inner sizes, words, layers, and prompts' lengths.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from heavylift_runtime.families import family_of
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.sources import Folder
from tests import decoder_checkpoints, t5_checkpoints
from tests.native_cores import Answer, answers_of, core_of, forced_logits, model_on
from tests.rank_threads import on_ranks
from tests.test_families_decoders import shapes

CLOSE = 2e-4
"""fp32, and sums in another order."""


@st.composite
def t5_shapes(draw: st.DrawFn) -> dict[str, Any]:
    """A small config of a T5; transformers' own cache has no room for more layers than the encoder's."""
    layers = draw(st.integers(1, 3))
    buckets, furthest = draw(st.sampled_from([(4, 8), (8, 20), (32, 128)]))
    return {
        "num_heads": draw(st.integers(1, 6)), "d_kv": draw(st.integers(1, 9)), "d_model": draw(st.integers(2, 33)),
        "d_ff": draw(st.sampled_from([12, 24, 35])), "num_layers": layers,
        "num_decoder_layers": draw(st.integers(1, layers)), "vocab_size": draw(st.integers(40, 70)),
        "relative_attention_num_buckets": buckets, "relative_attention_max_distance": furthest,
        "feed_forward_proj": draw(st.sampled_from(["relu", "gated-gelu", "gated-silu"])), "tied": draw(st.booleans()),
    }  # fmt: skip


def ragged(seed: int, count: int, words: int) -> tuple[list[list[int]], Tensor]:
    """Prompts of any length, one of them a single token, and tokens that are forced after them."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [1, *torch.randint(1, 30, (count - 1,), generator=generator).tolist()]
    prompts = [torch.randint(2, words, (length,), generator=generator).tolist() for length in lengths]
    return prompts, torch.randint(2, words, (count, 5), generator=generator)


def degree_of(folder: Path, wanted: int) -> int:
    """The largest degree up to the wanted one that the model can be split over."""
    config = Checkpoint.open(Folder(folder)).config
    return next(degree for degree in range(wanted, 0, -1) if not family_of(config).check(config, degree))


def served(folder: Path, group: Group, prompts: list[list[int]], forced: Tensor) -> tuple[Tensor, list[Answer]]:
    model = model_on(folder, group)
    answers = answers_of(core_of(model, slots=3, tokens=7), prompts, [9] * len(prompts))
    return forced_logits(model, prompts, forced)[1], answers


def agree(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=CLOSE * max(1.0, float(theirs.abs().max())), rtol=0)


def follow(answer: Answer, tokens: list[int], logits: list[Tensor]) -> None:
    """The same tokens, or different ones only where transformers' two likeliest are all but equal."""
    for place, (own, other) in enumerate(zip(answer.tokens, tokens, strict=False)):
        if own != other:
            first, second = logits[place].topk(2).values.tolist()
            assert first - second < 20 * CLOSE * max(1.0, float(logits[place].abs().max())), (answer.tokens, tokens)
            return
    assert len(answer.tokens) == len(tokens)


def greedy(model: Any, prompt: list[int], *, encodes: bool) -> tuple[list[int], list[Tensor]]:
    ids = torch.tensor([prompt])
    found = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False, pad_token_id=0,
        eos_token_id=1, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    tokens = found.sequences[0, 1 if encodes else len(prompt) :].tolist()
    return tokens, [row[0].float() for row in found.logits]


EXAMPLES = settings(max_examples=6, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@EXAMPLES
@given(shape=t5_shapes(), wanted=st.integers(1, 4), count=st.integers(1, 6), seed=st.integers(0, 999))
def test_a_t5_of_any_shape_is_transformers(shape: dict[str, Any], wanted: int, count: int, seed: int) -> None:
    with TemporaryDirectory() as place, torch.inference_mode():
        folder = t5_checkpoints.write_t5(Path(place), seed=seed, **shape)
        theirs: Any = t5_checkpoints.oracle(folder)
        prompts, forced = ragged(seed, count, shape["vocab_size"] - 1)
        forced = torch.cat([torch.zeros_like(forced[:, :1]), forced], 1)
        degree = degree_of(folder, wanted)

        ranks = on_ranks(degree, lambda group: served(folder, group, prompts, forced))

        expected = torch.stack(
            [
                theirs(input_ids=torch.tensor([prompt]), decoder_input_ids=row.unsqueeze(0)).logits[0]
                for prompt, row in zip(prompts, forced, strict=True)
            ]
        )
        for logits, answers in ranks:
            agree(logits, expected)
            assert answers == ranks[0][1]
        for answer, prompt in zip(ranks[0][1], prompts, strict=True):
            follow(answer, *greedy(theirs, prompt, encodes=True))


@pytest.mark.slow
@EXAMPLES
@given(drawn=shapes(), wanted=st.integers(1, 4), count=st.integers(1, 6), seed=st.integers(0, 999))
def test_a_decoder_of_any_shape_is_transformers(
    drawn: tuple[str, dict[str, Any]], wanted: int, count: int, seed: int
) -> None:
    family, config = drawn
    words = max(config["vocab_size"], 8)
    if family == "Mixtral":  # transformers' products of experts want rows of whole 16 bytes
        config = {**config, **{size: 4 * config[size] for size in ("hidden_size", "intermediate_size")}}
    with TemporaryDirectory() as place, torch.inference_mode():
        folder = decoder_checkpoints.write_decoder(Path(place), family, seed=seed, **{**config, "vocab_size": words})
        theirs: Any = decoder_checkpoints.oracle(folder)
        prompts, forced = ragged(seed, count, words)
        degree = degree_of(folder, wanted)

        ranks = on_ranks(degree, lambda group: served(folder, group, prompts, forced))

        texts = [[*prompt, *row] for prompt, row in zip(prompts, forced.tolist(), strict=True)]
        expected = torch.stack([decoder_checkpoints.logits_of(theirs, text)[-forced.shape[1] :] for text in texts])
        for logits, answers in ranks:
            agree(logits, expected)
            assert answers == ranks[0][1]
        for answer, prompt in zip(ranks[0][1], prompts, strict=True):
            follow(answer, *greedy(theirs, prompt, encodes=False))
