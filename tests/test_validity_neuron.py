"""Neuron's degrees: the cores of Inf2 and Trn, heads that are padded, keys that are multiplied."""

from __future__ import annotations

import pytest

from heavylift.plan.model import ModelFacts
from heavylift.plan.validity import (
    Split,
    degree_faults,
)
from heavylift.plan.validity.neuron import neuron_cache_factor, neuron_degrees, neuron_kv_heads
from tests.published import PUBLISHED
from tests.test_validity import LLAMA_70B, MIXTRAL, QWEN_05B, on


@pytest.mark.parametrize(
    ("name", "degrees"),
    [
        ("ml.inf2.xlarge", (1, 2)),
        ("ml.inf2.24xlarge", (1, 2, 4, 8, 12)),
        ("ml.inf2.48xlarge", (1, 2, 4, 8, 12, 24)),
        ("ml.trn1.32xlarge", (1, 2, 8, 16, 32)),
        ("ml.trn1n.32xlarge", (1, 2, 8, 16, 32)),
        ("ml.trn2.48xlarge", (1, 4, 8, 16, 32, 64)),
        ("ml.inf1.24xlarge", ()),
    ],
)
def test_neuron_has_its_own_degrees(name: str, degrees: tuple[int, ...]) -> None:
    assert neuron_degrees(on(name)) == degrees


def test_neuron_pads_heads_but_not_experts_and_multiplies_keys_that_do_not_fit() -> None:
    odd = degree_faults("neuronx", QWEN_05B, Split(8), on("ml.inf2.24xlarge"))
    mixtral = degree_faults("neuronx", MIXTRAL, Split(4), on("ml.inf2.24xlarge"))

    assert odd == []
    assert mixtral == ["tensor_parallel_degree 4 does not run Mixtral; Neuron has it at 8, 16 and 32"]
    assert [neuron_kv_heads(LLAMA_70B, tp) for tp in (1, 8, 16, 12, 24)] == [8, 8, 16, 64, 24]


def test_neurons_older_library_pads_no_heads_and_rounds_some_families_only() -> None:
    gpt2 = ModelFacts.of({**PUBLISHED["openai-community/gpt2-xl"].config, "n_positions": 1024})  # 25 heads
    neox = ModelFacts.of({**PUBLISHED["EleutherAI/gpt-neox-20b"].config, "max_position_embeddings": 2048})

    assert degree_faults("neuronx", gpt2, Split(2), on("ml.inf2.xlarge")) == [
        "tensor_parallel_degree 2 does not divide the number of attention heads 25, and Neuron pads none of gpt2; use 1"
    ]
    assert degree_faults("neuronx", neox, Split(8), on("ml.inf2.24xlarge")) == []
    assert degree_faults("neuronx", neox, Split(8), on("ml.inf2.24xlarge"), "static_int8") == [
        "quantization static_int8 is not of gpt_neox on Neuron; it has bloom, gpt2, llama, mistral, opt"
    ]


def test_on_neuron_a_degree_that_does_not_divide_the_key_heads_multiplies_the_cache() -> None:
    factors = {tp: neuron_cache_factor(LLAMA_70B, tp) for tp in (1, 4, 8, 12, 16, 24)}

    assert factors == {1: 1, 4: 1, 8: 1, 12: 64 / 12, 16: 1, 24: 1}  # at 12, one for each of the 64 query heads
