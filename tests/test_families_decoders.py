"""The decoder-only families' tables: published parameter counts, transformers' tensors, degrees, faults of configs."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heavylift_runtime.families import family_of
from heavylift_runtime.families.table import Family, shard
from heavylift_runtime.native.architectures import model_of
from heavylift_runtime.native.batch import Batch, Chunk
from tests.decoder_checkpoints import KINDS
from tests.published import PUBLISHED
from tests.test_native_t5 import MetaWeights, Unconnected

NO_WORDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
SHORT = "meta-llama/Llama-2-7b-hf"


def known(name: str, **changes: Any) -> tuple[Family, dict[str, Any]]:
    config = {**PUBLISHED[name].config, **changes}
    return family_of(config), config


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_published_number_of_parameters(name: str) -> None:
    family, config = known(name)

    assert family.parameters(config) == PUBLISHED[name].parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_table_and_forward_pass_agree_at_published_shapes(name: str) -> None:
    family, config = known(name)
    world = max(degree for degree in (1, 2, 4, 8) if not family.check(config, degree))
    weights = MetaWeights(config, world - 1, world, set())

    with torch.device("meta"), torch.inference_mode():
        model: Any = model_of(config, weights, Unconnected(world - 1, world))
        assert weights.taken == list(weights.shapes)  # all of the table, once, in its order
        if "Mixtral" in name:  # which experts a token visits is not known without numbers
            return
        stores = model.stores(3, 16, 16)
        chunks = [(Chunk(1, 0, 7), [5] * 7), (Chunk(2, 4, 3), [5] * 3)]
        hidden = model.forward(Batch.of([(5, 6)], chunks), stores)
        assert hidden.shape == model.vocabulary.embed(torch.zeros(3, dtype=torch.int64)).shape


@st.composite
def shapes(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """One of transformers' families, and a small config of it."""
    family, base = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    heads, unit, layers = draw(st.integers(1, 6)), 2 * draw(st.integers(1, 4)), draw(st.integers(1, 3))
    inner, words, tied = draw(st.integers(1, 50)), draw(st.integers(3, 70)), draw(st.booleans())
    pairs = draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0]))
    # head_dim lets a model's heads together be wider or narrower than the model
    width = heads * (unit if family not in ("Llama", "Mistral", "Qwen3") else draw(st.integers(1, 9)))
    sizes: dict[str, Any] = {
        "hidden_size": width, "n_embd": width, "num_hidden_layers": layers, "n_layer": layers, "ffn_dim": inner,
        "num_attention_heads": heads, "n_head": heads, "num_key_value_heads": pairs, "head_dim": unit,
        "intermediate_size": inner, "n_inner": inner, "rotary_dim": 2, "rope_parameters": None,
        "word_embed_proj_dim": draw(st.sampled_from([width, inner])),
    }  # fmt: skip
    changes = {key: value for key, value in sizes.items() if key in base or (key == "n_inner" and "n_embd" in base)}
    if family in ("Llama", "Mistral", "Qwen3"):
        changes["head_dim"] = unit
    if family == "GPTNeoX":
        changes["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    if "rope_parameters" in changes and changes["rope_parameters"] is None:
        changes["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
    return family, {**base, **changes, "vocab_size": words, "tie_word_embeddings": tied, **NO_WORDS}


@settings(max_examples=30)
@given(shapes())
def test_the_table_is_transformers_model_tensor_by_tensor(drawn: tuple[str, dict[str, Any]]) -> None:
    name, given_config = drawn
    config = getattr(transformers, f"{name}Config")(**given_config)
    kind = "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
    with torch.device("meta"):
        theirs: dict[str, Tensor] = getattr(transformers, kind)(config).state_dict()

    family = family_of(config.to_dict())
    ours = {weight.name: weight for weight in family.weights(config.to_dict())}

    if given_config["tie_word_embeddings"]:
        theirs.pop("lm_head.weight")  # in memory it is there twice
    if name == "Mixtral":  # in memory its experts are fused; what it saves is held in test_native_decoders
        assert sum(prod(w.shape) for w in ours.values()) == sum(t.numel() for t in theirs.values())
    else:
        named = {n.replace("lm_head", "embed_out") if name == "GPTNeoX" else n: t for n, t in theirs.items()}
        assert {n: w.shape for n, w in ours.items()} == {n: tuple(t.shape) for n, t in named.items()}


@settings(max_examples=30)
@given(shapes(), st.integers(1, 8))
def test_a_degree_either_has_a_sentence_or_splits_every_weight(drawn: tuple[str, dict[str, Any]], world: int) -> None:
    name, given_config = drawn
    config = getattr(transformers, f"{name}Config")(**given_config).to_dict()
    family = family_of(config)

    if faults := family.check(config, world):
        assert all(f"tensor_parallel_degree {world} " in fault for fault in faults)
        return
    for weight in family.weights(config):
        parts = [shard(weight, rank, world) for rank in range(world)]
        held = sum(part.elements for part in parts)
        times = {prod(weight.shape)} if weight.axis is not None else {world * prod(weight.shape)}
        if weight.replicated:
            times.add(world * weight.unit * prod(weight.shape[1:]))
        assert held in times
        assert parts[-1].elements == max(part.elements for part in parts)
    if world > 1:
        assert family.bytes_per_rank(config, world, 1) < family.parameters(config) or config["vocab_size"] < 2 * world


def test_fewer_key_value_heads_than_ranks_are_repeated_beside_the_queries_that_share_them() -> None:
    family, config = known("Qwen/Qwen2.5-7B", num_attention_heads=32, hidden_size=4096)
    weight = next(w for w in family.weights(config) if w.name.endswith("k_proj.weight"))

    starts = [shard(weight, rank, 8).start[0] // 128 for rank in range(8)]

    assert starts == [0, 0, 1, 1, 2, 2, 3, 3]
    assert family.check(config, 16) == []  # 18944 = 16 * 1184
    assert family.check({**config, "num_key_value_heads": 8, "num_attention_heads": 24}, 6) == [
        "tensor_parallel_degree 6 does not divide 'intermediate_size' 18944; use 1 or 2 or 4 or 8",
        "tensor_parallel_degree 6 does not divide 'num_key_value_heads' 8; use 1 or 2 or 4 or 8",
    ]


def test_no_number_of_key_value_heads_means_as_many_as_queries_have_whatever_the_family_assumes() -> None:
    family, config = known("mistralai/Mistral-7B-v0.1", num_key_value_heads=None)
    silent = {key: value for key, value in config.items() if key != "num_key_value_heads"}

    sizes = [next(w.shape[0] for w in family.weights(c) if "k_proj" in w.name) for c in (config, silent)]

    assert sizes == [32 * 128, 8 * 128]


def test_the_length_that_a_rotation_was_trained_at_counts_where_it_stands_beside_it() -> None:
    scaling = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}
    beside = {"original_max_position_embeddings": 128, "max_position_embeddings": 256}
    config = {**PUBLISHED[SHORT].config, "rope_scaling": scaling, **beside}
    theirs: Any = transformers.LlamaConfig(**{key: value for key, value in config.items() if key != "model_type"})

    theirs.standardize_rope_params()  # as its models do
    shape = family_of(config).shape(config)  # type: ignore[attr-defined]  # a Llama has one

    assert shape.rotary.yarn.original == theirs.rope_parameters["original_max_position_embeddings"] == 128


def test_gpt2s_fused_queries_keys_and_values_are_each_cut_for_themselves() -> None:
    family, config = known("openai-community/gpt2")
    table = {weight.name: weight for weight in family.weights(config)}

    weight = shard(table["transformer.h.0.attn.c_attn.weight"], 1, 2)
    bias = shard(table["transformer.h.0.attn.c_attn.bias"], 1, 2)

    assert (weight.start, weight.stop) == ((0, 0, 384), (768, 3, 768))
    assert (bias.start, bias.stop) == ((0, 384), (3, 768))
    assert shard(table["transformer.h.0.mlp.c_proj.weight"], 1, 2).start == (1536, 0)


FAULTY: list[tuple[str, dict[str, Any], str]] = [
    (SHORT, {"hidden_size": "4096"}, "'hidden_size' is '4096'; it must be a whole number of at least 1"),
    (SHORT, {"num_hidden_layers": 10**9}, "'num_hidden_layers' is 1000000000; at most 1000 are read"),
    (SHORT, {"num_key_value_heads": 5}, "'num_key_value_heads' is 5; it must divide 'num_attention_heads' 32"),
    (SHORT, {"hidden_act": ["silu"]}, "'hidden_act' is ['silu']; known are 'relu', "),
    (SHORT, {"rms_norm_eps": 2}, "'rms_norm_eps' is 2; it must be a number between 0 and 1"),
    (SHORT, {"tie_word_embeddings": "no"}, "'tie_word_embeddings' is 'no'; it must be true or false"),
    (SHORT, {"architectures": ["LlamaModel"]}, "'architectures' is ['LlamaModel']; only 'LlamaForCausalLM' or"),
    (SHORT, {"rope_scaling": 4}, "'rope_scaling' is 4; it must be an object, or null"),
    (SHORT, {"rope_scaling": {"type": "su"}}, "known are rope_type 'default', 'linear', 'dynamic'"),
    (SHORT, {"rope_scaling": {"type": "linear"}}, "'factor' is None; it must be a number above 0 (in 'rope_scaling')"),
    (SHORT, {"head_dim": 9}, "of each head's 9 numbers an even count must be turned, not 1.0"),
    ("Qwen/Qwen2-0.5B", {"use_sliding_window": True, "layer_types": [1]}, "'layer_types' is [1]; it must name"),
    ("mistralai/Mixtral-8x7B-v0.1", {"num_experts_per_tok": 9}, "it must be at most 'num_local_experts' 8"),
    ("openai-community/gpt2", {"n_head": 7}, "'n_embd' is 768; 'n_head' 7 must divide it"),
    ("openai-community/gpt2", {"scale_attn_by_inverse_layer_idx": True}, "is True; only false is known"),
    ("EleutherAI/gpt-j-6b", {"rotary_dim": 300}, "'rotary_dim' is 300; it must be even and at most a head's width"),
    ("EleutherAI/pythia-70m", {"rotary_pct": "all"}, "'rotary_pct' is 'all'; of each head's 64 numbers"),
    ("facebook/opt-125m", {"enable_bias": False}, "'enable_bias' is False; only true is known"),
    ("bigscience/bloom", {"apply_residual_connection_post_layernorm": True}, "is True; only false is known"),
    ("bigscience/bloom", {"n_embed": None}, "'hidden_size' is None; it must be a whole number"),
]


@pytest.mark.parametrize(("name", "change", "sentence"), FAULTY)
def test_a_config_that_cannot_be_built_says_which_key_is_wrong(
    name: str, change: dict[str, Any], sentence: str
) -> None:
    family, config = known(name, **change)

    faults = family.faults(config)

    assert any(sentence in fault for fault in faults), faults
    assert family.check(config, 1) == faults


def test_all_faults_of_a_config_come_at_once_and_each_once() -> None:
    faults = family_of({"model_type": "mistral"}).faults({"model_type": "mistral", "head_dim": 0, "rms_norm_eps": "a"})

    assert len(faults) == len(set(faults))
    for name in ("num_attention_heads", "hidden_size", "num_hidden_layers", "vocab_size", "rms_norm_eps", "head_dim"):
        assert sum(f"'{name}' is" in fault for fault in faults) == 1, name
