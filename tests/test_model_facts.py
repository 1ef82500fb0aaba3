"""What config.json says of a model: parameters as published, cache and operations by formula; else sentences."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.plan.architectures import ARCHITECTURES
from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.work import Work
from heavylift_runtime.families import FAMILIES, family_of
from tests.published_sizes import CONFIGS, FLAN, PUBLISHED, decoder, t5


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_has_as_many_parameters_as_its_page_says(name: str) -> None:
    config, published = PUBLISHED[name]

    assert ModelFacts.of(config).parameters == published


@pytest.mark.parametrize("config", [t5(768, 3072, 12, 12), t5(768, 2048, 12, 12, **FLAN), t5(64, 96, 3, 4, 16)])
def test_our_own_families_tables_have_the_same_parameters(config: dict[str, Any]) -> None:
    assert ModelFacts.of(config).parameters == family_of(config).parameters(config)


@pytest.mark.parametrize("name", [name for name, (config, _) in PUBLISHED.items() if config["model_type"] in FAMILIES])
def test_our_own_tables_of_tensors_agree_with_what_the_sizes_give(name: str) -> None:
    config, published = PUBLISHED[name]
    family, facts = family_of(config), ModelFacts.of(config)

    assert family.parameters(config) == published
    for degree in (1, 2, 4, 8):
        if not family.check(config, degree):
            ours = family.bytes_per_rank(config, degree, 2)
            assert facts.rank_bytes("bf16", tp=degree) == pytest.approx(ours, rel=0.07 if published < 1e9 else 1e-3)


FLAGS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "cohere": {"use_qk_norm": True, "attention_bias": True},
    "stablelm": {"use_parallel_residual": True, "use_qkv_bias": True, "qk_layernorm": True},
    "starcoder2": {"use_bias": False},
    "glm4_moe": {"use_qk_norm": True, "attention_bias": True},
    "granite": {"mlp_bias": True, "num_key_value_heads": 8},
    "seed_oss": {"attention_out_bias": True, "mlp_bias": True},
    "gpt_bigcode": {"multi_query": False},
    "phimoe": {"lm_head_bias": True, "attention_bias": True},
    "phi": {"qk_layernorm": True},
    "llama4_text": {"interleave_moe_layer_step": 2, "num_local_experts": 4},
}
"""What config.json may say otherwise than by default, of families with such flags."""
NEEDED = {"glm4_moe": {"head_dim": 128}}  # without it the default sizes do not go together


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "flags"), [*((family, {}) for family in ARCHITECTURES), *FLAGS.items()], ids=lambda each: str(each)
)
def test_transformers_builds_the_family_with_as_many_parameters(family: str, flags: dict[str, Any]) -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM

    fewer = {"num_hidden_layers": 3, "n_layer": 3, "num_layers": 3, "encoder_layers": 2, "decoder_layers": 3}
    fewer |= {"num_decoder_layers": 2, "attention_types": [[["global"], 3]], "num_experts_per_tok": 2}
    given = CONFIG_MAPPING[family]().to_dict()
    fewer = {key: value for key, value in fewer.items() if key in given}
    config = CONFIG_MAPPING[family](**fewer, **NEEDED.get(family, {}), **flags)

    stack = ARCHITECTURES[family].stack
    with torch.device("meta"):
        model = (AutoModelForCausalLM if stack == "decoder" else AutoModel).from_config(config)

    corrections = [buffer for name, buffer in model.named_buffers() if name.endswith("e_score_correction_bias")]
    whole = sum(tensor.numel() for tensor in (*model.parameters(), *corrections))
    facts = ModelFacts.of({**config.to_dict(), "tie_word_embeddings": stack != "decoder" or config.tie_word_embeddings})
    assert facts.parameters == whole


@pytest.mark.parametrize(
    ("name", "tp", "bytes_"),
    [
        ("Mistral-Small-3.2-24B", 1, 163_840),  # as vLLM's log has it: 28.20 GiB for 184,832 tokens
        ("Llama-3.1-8B", 1, 131_072),
        ("Llama-3.1-8B", 8, 16_384),
        ("Llama-3.1-8B", 16, 16_384),  # a key head cannot be cut
        ("Qwen2.5-7B", 1, 57_344),
        ("DeepSeek-V2-Lite", 1, 27 * 576 * 2),  # 512 compressed, 64 of position
        ("DeepSeek-V2-Lite", 8, 27 * 576 * 2),  # every rank keeps all of it
    ],
)
def test_a_token_of_context_takes_the_bytes_that_its_key_heads_have(name: str, tp: int, bytes_: int) -> None:
    assert ModelFacts.of(CONFIGS[name]).kv_bytes_per_token(tp, "bf16") == bytes_


def test_a_windowed_layer_keeps_no_more_than_its_window() -> None:
    gemma = ModelFacts.of(CONFIGS["gemma-2-2b"])  # every other of 26 layers sees 4096 tokens back

    assert (gemma.window, gemma.window_layers) == (4096, 13)
    each = gemma.kv_bytes_per_token(1, "bf16") / 26
    assert gemma.cache_bytes(100_000, kv_dtype="bf16") == 13 * each * 100_000 + 13 * each * 4096
    assert gemma.cache_bytes(4096, kv_dtype="bf16") == 26 * each * 4096


def test_an_encoder_decoder_keeps_the_source_beside_what_it_writes() -> None:
    xxl = ModelFacts.of(t5(4096, 10240, 24, 64, **FLAN))
    token = 2 * 24 * 64 * 64 * 4

    assert xxl.kv_bytes_per_token(1, "fp32") == xxl.cross_bytes_per_token(1, "fp32") == token
    assert xxl.cache_bytes(10, source=500, tp=4, kv_dtype="fp32") == 510 * token // 4


def test_layer_types_decide_where_they_are_published() -> None:
    types = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    config = decoder("qwen3", 64, 128, 4, 4, 100, sliding_window=16, use_sliding_window=True, layer_types=types)

    assert ModelFacts.of(config).window_layers == 2
    assert ModelFacts.of({**config, "use_sliding_window": False}).window is None
    with pytest.raises(InputError, match="'layer_types' has 4 entries for 5 layers"):
        ModelFacts.of({**config, "num_hidden_layers": 5})


def test_ranks_share_matrices_and_copy_norms_and_scarce_key_heads() -> None:
    llama = ModelFacts.of(CONFIGS["Llama-3.1-8B"])
    whole, kv = llama.weight_bytes("bf16"), 2 * llama.counted.kv

    assert 0 <= llama.rank_bytes("bf16", tp=8) - whole / 8 < 2**20
    assert llama.rank_bytes("bf16", tp=16) > whole / 16 + kv / 16 - 1
    stage = llama.rank_bytes("bf16", pp=4) / 2**30
    assert stage == pytest.approx(4.26, abs=0.05) and stage > whole / 4 / 2**30  # vLLM's log: an end holds a table


def test_the_checkpoints_own_number_of_parameters_wins() -> None:
    facts = ModelFacts.of(CONFIGS["Qwen3-0.6B"], parameters=751_632_384)

    assert facts.parameters == 751_632_384 > facts.counted.total  # its tied head is stored as well


def test_a_model_that_sees_is_planned_by_its_language_model() -> None:
    inner = {key: value for key, value in PUBLISHED["gemma-3-1b"][0].items() if key != "num_attention_heads"}
    config = {"model_type": "gemma3", "text_config": {**inner, "num_attention_heads": 4}, "vision_config": {}}

    assert ModelFacts.of(config).parameters == 999_885_952


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"hidden_size": -1}, ["'hidden_size' is -1; it must be a whole number from 1"]),
        ({"hidden_size": None, "vocab_size": "many"}, ["'hidden_size' is None", "'vocab_size' is 'many'"]),
        ({"num_attention_heads": 33}, ["'num_attention_heads' 33 does not divide 'hidden_size' 4096"]),
        ({"num_key_value_heads": 5}, ["'num_key_value_heads' 5 does not divide 'num_attention_heads' 32"]),
        ({"attention_bias": "yes"}, ["'attention_bias' is 'yes'; it must be true or false"]),
        ({"num_hidden_layers": 3.0}, ["'num_hidden_layers' is 3.0"]),
        ({"vocab_size": True}, ["'vocab_size' is True"]),
        ({"hidden_size": 10**30}, ["'hidden_size' is 1000000000000000000000000000000"]),
        ({"quantization_config": "awq"}, ["'quantization_config' is 'awq'; it must be an object"]),
        (
            {"model_type": "rwkv"},
            ["'model_type' is 'rwkv', which the plan does not know; the plan knows llama, mistral"],
        ),
        ({"model_type": None}, ["'model_type' is missing; the plan knows llama"]),
    ],
)
def test_a_malformed_config_is_answered_with_every_fault(changes: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        ModelFacts.of({**CONFIGS["Llama-3.1-8B"], **changes})

    assert len(caught.value.faults) >= len(faults)
    assert all(any(fault in said for said in caught.value.faults) for fault in faults)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
EXTRA = ("sliding_window", "layer_types", "quantization_config", "text_config", "head_dim", "tie_word_embeddings")


@pytest.mark.slow
@settings(max_examples=300)
@given(data=st.data(), name=st.sampled_from(sorted(PUBLISHED)))
def test_every_mutated_config_is_planned_or_answered_with_sentences(data: Any, name: str) -> None:
    config = dict(PUBLISHED[name][0])
    keys = st.sampled_from([*sorted(config), *EXTRA])
    for key in data.draw(st.lists(keys, min_size=1, max_size=3)):
        if data.draw(st.booleans()):
            config[key] = data.draw(JSON | st.integers(-2, 4) | st.dictionaries(keys, JSON, max_size=2))
        else:
            config.pop(key, None)

    try:
        facts = ModelFacts.of(config)
    except InputError as error:
        assert error.faults and all(fault.startswith("config.json: '") for fault in error.faults)
    else:
        assert facts.parameters > 0 and facts.layer_parameters > 0
        assert facts.cache_bytes(100, source=10) > 0 and facts.kv_bytes_per_token(2) > 0
        assert Work.of(facts, "bf16").prompt_flops(100) > 0
        assert facts.rank_bytes("bf16", "awq", tp=2, pp=2) > 0
