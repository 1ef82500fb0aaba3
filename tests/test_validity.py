"""What cannot run, and the sentence for it: degrees by engine and quantization, formats by hardware, the invocation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.facts.precision import precisions
from heavylift.plan.invocation import invocation
from heavylift.plan.model import ModelFacts
from heavylift.plan.parts import Performance, Range
from heavylift.plan.validity import (
    Split,
    computes_in,
    degree_faults,
    invocation_faults,
    loading_bytes,
    precision_faults,
    splits,
)
from heavylift_runtime.families import family_of

CONFIGS = json.loads((Path(__file__).parent / "golden" / "vllm-memory" / "configs.json").read_text())
LLAMA_70B = ModelFacts.of(CONFIGS["Llama-3.3-70B-FP8"])
QWEN_05B = ModelFacts.of(
    {
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    }
)
PHI3_MEDIUM = {
    "model_type": "phi3",
    "hidden_size": 5120,
    "intermediate_size": 17920,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 10,
    "vocab_size": 32064,
}
GLM = {  # GLM-4.7's heads and words, on which vLLM's fourth rule was met
    **PHI3_MEDIUM,
    "model_type": "llama",
    "hidden_size": 6144,
    "num_attention_heads": 96,
    "num_key_value_heads": 48,
    "intermediate_size": 12288,
    "vocab_size": 151552,
}
MIXTRAL = ModelFacts.of(
    {
        "model_type": "mixtral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }
)


def on(name: str) -> facts.InstanceFact:
    return facts.instances()[name]


def vllm(model: ModelFacts, tp: int, quantization: str = "none", name: str = "ml.p5.48xlarge") -> list[str]:
    return degree_faults("vllm", model, Split(tp), on(name), quantization)


def test_fourteen_heads_run_on_one_two_seven_and_fourteen_ranks() -> None:
    alone = [tp for tp in range(1, 17) if not any("attention heads" in fault for fault in vllm(QWEN_05B, tp))]

    assert alone == [1, 2, 7, 14]
    assert vllm(QWEN_05B, 4)[0].startswith(
        "tensor_parallel_degree 4 does not divide the number of attention heads 14; use 1 or 2"
    )


def test_a_padded_vocabulary_that_does_not_divide_is_the_reason() -> None:
    (fault,) = vllm(ModelFacts.of(GLM), 6)

    assert fault == "tensor_parallel_degree 6 does not divide the padded vocabulary 151552 (151552 words, in 64s)"


def test_ten_key_heads_take_two_ranks_but_not_four() -> None:
    model = ModelFacts.of(PHI3_MEDIUM)

    assert vllm(model, 2) == []
    assert vllm(model, 4) == [
        "tensor_parallel_degree 4 neither divides the number of key-value heads 10 nor is a multiple of it; use 1 or 2"
    ]


def test_beyond_its_key_heads_a_model_still_splits_but_its_cache_stops_shrinking() -> None:
    sixteen = [fault for fault in vllm(LLAMA_70B, 16) if "devices" not in fault]

    assert sixteen == []  # 64 heads, 8 of them keys': each lies on two ranks
    assert LLAMA_70B.kv_bytes_per_token(16) == LLAMA_70B.kv_bytes_per_token(8) == LLAMA_70B.kv_bytes_per_token(1) / 8


@pytest.mark.parametrize(("tp", "runs"), [(1, True), (2, True), (4, False), (8, False)])
def test_an_experts_quarter_is_less_than_a_group_of_scales(tp: int, runs: bool) -> None:
    config = {**CONFIGS["Qwen3-30B-A3B"], "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}

    faults = vllm(ModelFacts.of(config), tp, "awq")

    assert (faults == []) is runs, "Qwen3-30B-A3B-AWQ: an expert is 768 wide"
    assert runs or "the width of an expert 768" in faults[0]


def test_blocks_of_fp8_scales_are_not_cut() -> None:
    blocks = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    model = ModelFacts.of({**CONFIGS["Qwen3-30B-A3B"], "quantization_config": blocks})

    assert vllm(model, 2, "fp8") == []
    assert "a scale's block of 128" in vllm(model, 4, "fp8")[0]
    assert vllm(ModelFacts.of(CONFIGS["Qwen3-30B-A3B"]), 4, "fp8") == []  # one scale for a channel: nothing to cut


def test_a_copy_never_spans_instances() -> None:
    (fault,) = degree_faults("vllm", LLAMA_70B, Split(4, 2), on("ml.g5.12xlarge"))

    assert fault == ("ml.g5.12xlarge has 4 A10G devices; one copy at degree 4 · 2 takes 8, and never spans instances")


def test_splits_come_with_the_reasons_against_all_others() -> None:
    valid, refused = splits("vllm", QWEN_05B, on("ml.g5.48xlarge"))

    assert valid == [Split(1), Split(2), Split(1, 2), Split(2, 2), Split(1, 4), Split(2, 4), Split(1, 8)]
    assert Split(4) in refused and all(reason for reasons in refused.values() for reason in reasons)


def test_volta_is_older_than_vllms_wheels() -> None:
    faults = vllm(QWEN_05B, 1, name="ml.p3.2xlarge")

    assert faults == ["ml.p3.2xlarge has compute capability 7.0; vLLM needs 7.5"]


@pytest.mark.parametrize("tp", [1, 2, 3, 4, 8, 16, 64])
def test_the_native_engines_rule_is_its_familys_table(tp: int) -> None:
    config = {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "d_model": 128,
        "d_kv": 32,
        "d_ff": 256,
        "num_layers": 4,
        "num_heads": 4,
        "vocab_size": 384,
    }

    ours = degree_faults("native", ModelFacts.of(config), Split(tp), on("ml.c6i.32xlarge"))

    assert bool(ours) == bool(family_of(config).check(config, tp))


@pytest.mark.parametrize(
    ("engine", "split", "fault"),
    [
        ("accelerate", Split(7), "does not divide the number of key-value heads 2"),
        ("deepspeed", Split(1, 2), "engine deepspeed has no pipeline parallelism"),
        ("fastertransformer", Split(4), "does not divide the number of attention heads 14"),
        ("vllm", Split(1, 32), "more than the model's 24 layers"),
    ],
)
def test_each_engine_has_its_rules(engine: str, split: Split, fault: str) -> None:
    assert any(fault in each for each in degree_faults(engine, QWEN_05B, split, on("ml.p5.48xlarge")))


@pytest.mark.parametrize(
    ("dtype", "quantization", "name", "fault"),
    [
        ("bf16", "none", "T4", "T4 (turing) cannot compute in bf16; use dtype fp16"),
        ("bf16", "none", "A10G", None),
        ("fp16", "awq", "T4", None),
        ("fp16", "awq", "V100", "V100 (volta) cannot run awq"),
        ("bf16", "fp8", "A10G", None),
        ("fp16", "fp8", "T4", "T4 (turing) cannot run fp8"),
        ("bf16", "awq", "Inferentia2", "Inferentia2 (neuron2) cannot run awq"),
        ("bf16", "fp8", "Trainium2", None),
        ("bf16", "smoothquant", "B200", "nothing is published on int8 on B200 (blackwell)"),
        ("bf16", "q4_k_m", "H100", "nothing is known of q4_k_m on H100"),
    ],
)
def test_a_format_that_the_hardware_lacks_is_refused(
    dtype: str, quantization: str, name: str, fault: str | None
) -> None:
    faults = precision_faults(dtype, quantization, facts.accelerators()[name])

    assert (faults == []) if fault is None else faults[0].startswith(fault)


def test_an_fp8_cache_needs_ada_or_newer() -> None:
    accelerators = facts.accelerators()

    refused = [
        name for name in ("T4", "A10G", "A100-80") if precision_faults("fp16", "none", accelerators[name], "fp8")
    ]

    assert refused == ["T4", "A10G", "A100-80"]
    assert not precision_faults("bf16", "none", accelerators["L4"], "fp8")


def test_a_quantization_that_is_only_stored_is_computed_in_sixteen_bits() -> None:
    accelerators = facts.accelerators()

    assert computes_in("bf16", "fp8", accelerators["A10G"]) == "bf16"
    assert computes_in("bf16", "fp8", accelerators["H100"]) == "fp8"
    assert computes_in("bf16", "awq", accelerators["H100"]) == "bf16"
    assert computes_in("bf16", "nvfp4", accelerators["B200"]) == "fp4"


def test_every_generation_has_a_column_and_every_cell_an_answer() -> None:
    generations = {accelerator.generation for accelerator in facts.accelerators().values()}

    for scheme, cells in precisions().items():
        assert set(cells) == generations, scheme


def test_a_whole_answer_has_sixty_seconds_and_a_stream_only_its_first_token() -> None:
    assert invocation_faults(1.0, 0.05, 1000, streams=False) == []
    assert invocation_faults(1.0, 0.1, 1000, streams=True) == []
    assert invocation_faults(1.0, 0.1, 1000, streams=False) == [
        "1000 tokens take 100.9 s, and SageMaker ends an invocation after 60 s: "
        "stream the answer, or allow at most 591 new tokens"
    ]
    assert "the first token takes 61.0 s" in invocation_faults(61.0, 0.1, 1, streams=True)[0]


@settings(max_examples=500)
@given(first=st.floats(0, 59), each=st.floats(1e-4, 5), tokens=st.integers(1, 100_000))
@example(first=0.0, each=60 / 7, tokens=100)
def test_the_tokens_that_are_said_to_fit_do_fit(first: float, each: float, tokens: int) -> None:
    faults = invocation_faults(first, each, tokens, streams=False)

    if faults:
        most = int(faults[0].split()[-3])
        assert most < tokens and invocation_faults(first, each, most, streams=False) == []


def expected(first_ms: float, token_ms: float, request_ms: float) -> Performance:
    spread = {name: Range(value * 0.5, value, value * 2) for name, value in
              (("first", first_ms), ("token", token_ms), ("request", request_ms), ("rate", 100.0))}  # fmt: skip
    return Performance(
        load="1 client",
        load_how="assumed",
        first_token_ms=spread["first"],
        per_token_ms=spread["token"],
        request_ms=spread["request"],
        tokens_per_second=spread["rate"],
        most_tokens_per_second=spread["rate"],
        batch=1.0,
        probability=1.0,
        usd_per_million_tokens=None,
        usd_per_million_tokens_most=None,
        calibration="",
        calibrated=False,
    )


def test_the_plan_says_whether_the_longest_answer_is_there_in_time() -> None:
    (quick,) = invocation(expected(100, 10, 1000), 64, streams=False)
    (slow,) = invocation(expected(100, 100, 1000), 1000, streams=False)
    (streamed,) = invocation(expected(100, 100, 1000), 1000, streams=True)

    assert quick.value == "within SageMaker's 60 s" and quick.why == "0.2 s + 64 tokens · 0.02 s at P90"
    assert slow.value == "may take longer than 60 s" and "stream the answer, or allow at most 299 new" in slow.why
    assert streamed.value.startswith("streamed")
    assert invocation(None, 64, streams=False) == ()


def test_a_load_of_which_no_request_is_answered_in_time_is_refused() -> None:
    with pytest.raises(InputError, match=r"the mean request takes 61\.0 s at P10, and SageMaker ends an invocation"):
        invocation(expected(100, 100, 122_000), 64, streams=False)

    assert invocation(expected(100, 100, 122_000), 64, streams=True)


def test_only_some_engines_need_the_host_to_hold_all_weights() -> None:
    whole, largest = 140 * 10**9, 5 * 10**9

    assert loading_bytes("deepspeed", whole, largest)[0] > whole
    assert loading_bytes("vllm", whole, largest)[0] < 10 * 2**30


@given(
    tp=st.integers(1, 64),
    pp=st.integers(1, 64),
    name=st.sampled_from(sorted(facts.instances())),
    engine=st.sampled_from(["vllm", "deepspeed", "fastertransformer", "accelerate", "neuronx", "script"]),
    quantization=st.sampled_from(["none", "awq", "fp8"]),
)
def test_every_refusal_is_a_sentence(tp: int, pp: int, name: str, engine: str, quantization: str) -> None:
    faults: Any = degree_faults(engine, MIXTRAL, Split(tp, pp), on(name), quantization)

    assert all(fault and not fault.endswith(".") and "\n" not in fault for fault in faults)
