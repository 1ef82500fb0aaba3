"""A checkpoint that is quantized already: planned in its own bytes, or answered with what to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heavylift.errors import InputError
from heavylift.plan.plan import Plan
from heavylift.serving.render import render
from heavylift.spec import ModelSpec
from heavylift.weights.published import published

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "float16",
}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
    "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280, "torch_dtype": "bfloat16",
    "first_k_dense_replace": 3, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "moe_intermediate_size": 2048, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "max_position_embeddings": 163840,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip
GPT_OSS = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088,
    "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128, "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "mxfp4"}, "tie_word_embeddings": False,
}  # fmt: skip


def planned(folder: Path, config: dict[str, Any], lines: str = "") -> Plan:
    """Of a model of which config.json alone is known."""
    (folder / "x.yaml").write_text(f"name: x\nmodel: {{id: owner/x, revision: {COMMIT}}}\n{lines}\n")
    (folder / "config.json").write_text(json.dumps(config))
    spec = ModelSpec.from_yaml(folder / "x.yaml")
    return Plan.fit(spec, published(spec, folder, folder / "config.json"))


def stored(method: str, **more: Any) -> dict[str, Any]:
    return {**LLAMA, "quantization_config": {"quant_method": method, **more}}


def test_deepseek_v3_takes_a_byte_a_parameter_on_each_of_eight_devices(tmp_path: Path) -> None:
    plan = planned(tmp_path, DEEPSEEK_V3, "quantization: fp8")

    (weights,) = [row for row in plan.memory.rows if row.where == "accelerator" and row.what == "weights"]
    assert plan.model.parameters == 671_026_419_200
    assert 671e9 / 8 < weights.bytes < 1.05 * 671e9 / 8 and plan.tensor_parallel_degree == 8


def test_gpt_oss_is_served_in_its_own_four_bits_on_one_small_device(tmp_path: Path) -> None:
    plan = planned(tmp_path, GPT_OSS, "quantization: mxfp4\ninstance_type: ml.g6.4xlarge")

    (weights,) = [row for row in plan.memory.rows if row.where == "accelerator" and row.what == "weights"]
    assert plan.engine == "vllm" and 12e9 < weights.bytes < 16e9
    assert "option.quantize=mxfp4" in render(plan)


@pytest.mark.parametrize(
    ("config", "lines", "fault"),
    [
        (DEEPSEEK_V3, "", "fp8, by config.json's 'quantization_config'; .* none; write quantization: fp8"),
        (stored("awq", bits=4, group_size=128), "engine: native", "write quantization: awq"),
        (stored("awq", bits=4, group_size=128), "quantization: gptq", "write quantization: awq"),
        (stored("awq", bits=4, group_size=128), "engine: accelerate", "engine accelerate has none: take another"),
        (LLAMA, "quantization: awq", "config.json speaks of none; take one that has it; `heavylift quantize` writes"),
        (LLAMA, "quantization: mxfp4", "config.json speaks of none; take one that has it$"),
        (stored("gptq", bits=8, group_size=128), "quantization: gptq", "'bits' is 8; of gptq the plan knows 4"),
        (stored("bitsandbytes", load_in_4bit=True), "", "'bitsandbytes', of which the plan knows no bytes"),
    ],
)
def test_other_bytes_than_the_checkpoints_own_are_refused(
    tmp_path: Path, config: dict[str, Any], lines: str, fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        planned(tmp_path, config, lines)


def test_an_alternative_in_a_checkpoints_own_scheme_says_that_it_needs_another(tmp_path: Path) -> None:
    plan = planned(tmp_path, LLAMA, "engine: vllm")

    asked = {ask for each in plan.alternatives for ask in each.asks if ask.startswith("quantization: ")}
    assert not any("mxfp4" in ask for ask in asked)
    assert all("of a checkpoint that has it" in ask for ask in asked if "awq" in ask or "gptq" in ask)


def test_numbers_of_no_stated_type_are_refused_with_what_to_add(tmp_path: Path) -> None:
    silent = {key: value for key, value in GPT_OSS.items() if key != "torch_dtype"}

    with pytest.raises(InputError, match=r"must say its 'dtype' .*; got nothing; add what the model's page says"):
        planned(tmp_path, silent, "quantization: mxfp4")
