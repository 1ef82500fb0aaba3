"""Rotary positions: speeds and lengths are those that transformers computes from the same config.json."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families import family_of
from heavylift_runtime.families.llama import Llama
from heavylift_runtime.native.rotary import Rotation, frequencies

SIZES: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 61, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
ORIGINAL = "original_max_position_embeddings"
KINDS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "default, all of it": {"rope_type": "default", "partial_rotary_factor": 0.5},
    "linear": {"rope_type": "linear", "factor": 2.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, ORIGINAL: 32},
    "yarn": {"rope_type": "yarn", "factor": 4.0, ORIGINAL: 64},
    "yarn, own borders": {"rope_type": "yarn", "factor": 8.0, ORIGINAL: 32, "beta_fast": 16, "beta_slow": 2,
                          "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": False},
    "yarn, own length": {"rope_type": "yarn", "factor": 4.0, ORIGINAL: 64, "attention_factor": 1.3},
    "longrope": {"rope_type": "longrope", "factor": 4.0, ORIGINAL: 64,
                 "short_factor": [1.0 + i / 16 for i in range(16)],
                 "long_factor": [2.0 + i for i in range(16)]},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_cosines_and_sines_are_those_of_transformers(kind: str) -> None:
    said = {"rope_theta": 500.0, **KINDS[kind]}
    shape = Llama().shape({**SIZES, "rope_parameters": said})
    oracle = LlamaRotaryEmbedding(LlamaConfig(**{**SIZES, "rope_parameters": said}))
    positions = torch.arange(shape.positions or 0)
    assert shape.rotary is not None

    ours, signed = Rotation(shape.rotary, torch.float32).at(positions)
    cosines, sines = oracle(torch.zeros(1), positions[None])

    assert torch.allclose(frequencies(shape.rotary), oracle.inv_freq, rtol=1e-6, atol=0)
    assert torch.allclose(ours[:, 0], cosines[0], atol=2e-5)
    assert torch.allclose(signed[:, 0].abs(), sines[0].abs(), atol=2e-5)


def test_longrope_serves_up_to_the_length_for_which_its_short_factors_hold() -> None:
    assert Llama().shape({**SIZES, "rope_parameters": {"rope_theta": 500.0, **KINDS["longrope"]}}).positions == 64


def test_faults_of_the_scaling_are_named_with_their_place() -> None:
    def fault(**said: Any) -> str:
        with pytest.raises(LoadError) as refused:
            list(family_of(SIZES).weights({**SIZES, "rope_scaling": said}))
        return str(refused.value)

    assert "known are rope_type 'default', 'linear', 'dynamic', 'llama3', 'yarn' and 'longrope'" in fault(type="su")
    assert "'factor' is None; it must be a number above 0 (in 'rope_scaling')" in fault(type="yarn")
    assert "'short_factor' is [1.0]; it must be 16 numbers above 0" in fault(type="longrope", short_factor=[1.0])
    assert "this family turns all of a head, not a 'partial_rotary_factor' of 0.5" in fault(
        type="linear", factor=2.0, partial_rotary_factor=0.5
    )
