"""The families: found by config.json, and the arithmetic of shards. Nothing here needs torch."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families import family_of
from heavylift_runtime.families.table import Split, Weight, shard
from tests.locked import XXL

T5_SMALL = {
    "model_type": "t5", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
}  # fmt: skip


def test_a_config_with_absurdly_many_layers_is_refused_before_its_table_is_made() -> None:
    with pytest.raises(LoadError, match=r"'num_layers' is 1000000000; at most 1000 are read"):
        list(family_of(T5_SMALL).weights({**T5_SMALL, "num_layers": 10**9}))


@st.composite
def weights(draw: st.DrawFn) -> tuple[Weight, int]:
    """A weight, and a number of ranks over which it may be split."""
    world = draw(st.integers(1, 8))
    split = draw(st.sampled_from(Split))
    unit = draw(st.integers(1, 4)) if split in (Split.COLUMN, Split.ROW) else 1
    cut = split in (Split.COLUMN, Split.ROW)
    transposed, fused = cut and draw(st.booleans()), draw(st.integers(1, 3)) if cut else 1
    even, free = unit * world * draw(st.integers(1, 4)) * fused, draw(st.integers(1, 40))
    shape = {Split.COLUMN: (even, free), Split.ROW: (free, even), Split.HEADS: (free, even)}.get(
        split, (free + world, free)
    )
    return Weight("w", shape[::-1] if transposed else shape, split, unit, transposed=transposed, fused=fused), world


@given(weights())
def test_the_parts_of_all_ranks_cover_every_element_exactly_once(drawn: tuple[Weight, int]) -> None:
    weight, world = drawn

    parts = [shard(weight, rank, world) for rank in range(world)]

    cells = [cell for part in parts for cell in product(*map(range, part.start, part.stop))]
    times = world if weight.split is Split.WHOLE else 1
    assert len(cells) == prod(weight.shape) * times
    assert len(set(cells)) == prod(weight.shape)


@given(weights())
def test_a_part_never_cuts_a_head_and_no_rank_holds_more_than_one_row_more(drawn: tuple[Weight, int]) -> None:
    weight, world = drawn

    parts = [shard(weight, rank, world) for rank in range(world)]

    if weight.axis is not None:
        assert all(part.start[weight.axis] % weight.unit == 0 for part in parts)
        sizes = [part.shape[weight.axis] for part in parts]
        assert max(sizes) - min(sizes) <= (1 if weight.split is Split.VOCABULARY else 0)
        assert parts[-1].elements == max(part.elements for part in parts)


def test_published_models_have_their_published_number_of_parameters() -> None:
    # 11,135,332,352 and 60,506,624: the counts that transformers prints for google/flan-t5-xxl and google-t5/t5-small

    assert family_of(XXL).parameters(XXL) == 11_135_332_352
    assert family_of(T5_SMALL).parameters(T5_SMALL) == 60_506_624


def test_four_ranks_of_flan_t5_xxl_hold_a_quarter_each_and_the_norms() -> None:
    family = family_of(XXL)

    held = family.bytes_per_rank(XXL, 4, 4)

    norms = (24 * 2 + 24 * 3 + 2) * 4096
    assert held == ((family.parameters(XXL) - norms) // 4 + norms) * 4


def test_a_head_that_the_checkpoint_holds_counts_whatever_config_says(tiny_t5: Path) -> None:
    config = {**json.loads((tiny_t5 / "config.json").read_text()), "tie_word_embeddings": True}
    names = ["shared.weight", "lm_head.weight"]

    family = family_of(config)

    head = config["vocab_size"] * config["d_model"]
    assert family.parameters(config, names) - family.parameters(config) == head
    assert family.parameters(config, names[:1]) == family.parameters(config)


def test_the_table_names_each_weight_once_and_every_split_divides() -> None:
    table = list(family_of(XXL).weights(XXL))

    assert len({weight.name for weight in table}) == len(table)
    for weight in table:
        assert sum(shard(weight, rank, 4).elements for rank in range(4)) in (prod(weight.shape), 4 * prod(weight.shape))


def test_a_degree_that_does_not_divide_names_the_degrees_that_do() -> None:
    six_heads = {**T5_SMALL, "num_heads": 6, "d_ff": 1024}

    faults = family_of(six_heads).check(six_heads, 4)

    assert faults == ["tensor_parallel_degree 4 does not divide 'num_heads' 6; use 1 or 2"]
    assert family_of(six_heads).check(six_heads, 2) == []


def test_an_unknown_model_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LoadError, match=r"'model_type' is 'falcon', .* it knows 't5' .* 'llama' .* 'mixtral'"):
        family_of({"model_type": "falcon"})
    with pytest.raises(LoadError, match="'model_type' is None"):
        family_of({})
    with pytest.raises(LoadError, match=r"'model_type' is \['t5'\]"):
        family_of({"model_type": ["t5"]})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"d_model": "512"}, "'d_model' is '512'; it must be a whole number"),
        ({"num_heads": 0}, "'num_heads' is 0; it must be"),
        ({"num_heads": True}, "'num_heads' is True; it must be"),
        ({"num_decoder_layers": -1}, "'num_decoder_layers' is -1; it must be"),
        ({"feed_forward_proj": "gated-tanh"}, "'feed_forward_proj' is 'gated-tanh'; known are 'relu'"),
        ({"feed_forward_proj": ["relu"]}, r"'feed_forward_proj' is \['relu'\]; known are"),
        ({"architectures": ["T5EncoderModel"]}, "only 'T5ForConditionalGeneration' generates text"),
        ({"architectures": "T5"}, "'architectures' is 'T5'; only"),
        ({"relative_attention_num_buckets": 2}, "must be even and at least 4"),
        ({"relative_attention_max_distance": 16}, "more than half of it"),
        ({"tie_word_embeddings": 0}, "'tie_word_embeddings' is 0; it must be true or false"),
        ({"scale_decoder_outputs": "no"}, "'scale_decoder_outputs' is 'no'; it must be true or false"),
        ({"layer_norm_epsilon": "small"}, "'layer_norm_epsilon' is 'small'; it must be"),
    ],
)
def test_a_config_that_makes_no_t5_says_which_key_is_wrong(change: dict[str, Any], sentence: str) -> None:
    config = {**T5_SMALL, **change}

    with pytest.raises(LoadError, match=sentence):
        list(family_of(config).weights(config))


def test_the_class_name_of_the_first_releases_is_known_too() -> None:
    config = {**T5_SMALL, "architectures": ["T5WithLMHeadModel"]}

    assert family_of(config).check(config, 2) == []


def test_all_faults_of_a_config_come_at_once() -> None:
    faults = family_of(T5_SMALL).faults({"model_type": "t5", "d_model": 0, "feed_forward_proj": "no"})

    assert len(faults) == 8  # six sizes, the decoder's layers and the activation


def test_the_families_are_read_without_torch() -> None:
    program = "import sys, heavylift_runtime.families; sys.exit('torch' in sys.modules or 'boto3' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
