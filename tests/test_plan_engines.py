"""What the plan tells each engine, and what it refuses before anything is deployed: the registry against real loads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.lock import Lock
from heavylift.plan.model import ModelFacts
from heavylift.plan.plan import Plan
from heavylift.plan.validity import Split, degree_faults
from heavylift_runtime.engines.registry import encoder_task
from heavylift_runtime.options import Options
from tests.locked import SMALL, lock_of, spec_of

LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 320, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2,
    "max_position_embeddings": 2048, "tie_word_embeddings": False, "rms_norm_eps": 1e-5, "hidden_act": "silu",
}  # fmt: skip
BERT: dict[str, Any] = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "hidden_size": 32}
CPU = "ml.c6i.8xlarge"


def bert_lock() -> Lock:
    lock = lock_of(SMALL)
    return replace(lock, model=replace(lock.model, config=BERT))


def changed(changes: dict[str, object]) -> Lock:
    """Of a Llama whose config.json was changed after its weights were counted."""
    lock = lock_of(LLAMA)
    return replace(lock, model=replace(lock.model, config=LLAMA | changes))


def options_of(plan: Plan) -> Options:
    return Options.parse(dict(plan.properties), {})


def planned(config: dict[str, Any], **fields: Any) -> Plan:
    return Plan.fit(spec_of(instance_type=CPU, **fields), lock_of(config))


def test_accelerate_divides_the_families_that_it_can_and_places_the_layers_of_others() -> None:
    divided = planned(LLAMA, engine="accelerate", tensor_parallel_degree=2)
    placed = planned(SMALL, engine="accelerate", tensor_parallel_degree=2)
    asked = planned(LLAMA, engine="accelerate", tensor_parallel_degree=2, options={"device_map": "auto"})

    assert (options_of(divided).ranks, "device_map" in options_of(divided).properties) == (2, False)
    for plan in (placed, asked):
        assert (options_of(plan).ranks, options_of(plan).properties["device_map"]) == (1, "auto")


def test_a_model_that_classifies_is_told_its_task_and_keeps_the_one_that_is_given() -> None:
    spec = spec_of(instance_type=CPU, engine="accelerate")
    embeds = {"task": "feature-extraction", "pooling": "cls", "normalize": False}
    given = spec_of(instance_type=CPU, engine="accelerate", options=embeds)

    assert options_of(Plan.fit(spec, bert_lock())).properties["task"] == "text-classification"
    assert options_of(Plan.fit(given, bert_lock())).properties["task"] == "feature-extraction"
    assert options_of(Plan.fit(given, bert_lock())).engine == "script"  # which answers with numbers
    assert encoder_task(LLAMA) is None and encoder_task({}) is None


@pytest.mark.parametrize(
    ("engine", "kind"), [("fastertransformer", CPU), ("deepspeed", CPU), ("neuronx", "ml.inf2.xlarge")]
)
def test_engines_that_write_text_refuse_encoders_with_the_one_that_has_them(engine: str, kind: str) -> None:
    with pytest.raises(InputError, match="never had encoders, and model_type 'bert' is one: engine accelerate answers"):
        Plan.fit(spec_of(instance_type=kind, engine=engine), bert_lock())


@pytest.mark.parametrize(
    ("config", "fields", "fault"),
    [
        (SMALL, {"engine": "fastertransformer", "quantization": "int8"}, "FasterTransformer had no int8 for t5"),
        (
            LLAMA,
            {"engine": "deepspeed", "quantization": "int8", "dtype": "fp16", "tensor_parallel_degree": 2},
            "int8 of engine deepspeed is for decoder-only models at tensor_parallel_degree 1",
        ),
        (LLAMA, {"engine": "vllm", "pipeline_parallel_degree": 2}, "engine vllm has no stages on processors"),
        (LLAMA, {"engine": "deepspeed", "quantization": "int8"}, "engine deepspeed needs dtype fp16: got fp32"),
        (
            LLAMA,
            {"engine": "deepspeed", "tensor_parallel_degree": 4},
            "tensor_parallel_degree 4 does not divide the number of key-value heads 2; use 1 or 2",
        ),
        (
            LLAMA,
            {"engine": "accelerate", "tensor_parallel_degree": 4},
            "tensor_parallel_degree 4 does not divide the number of key-value heads 2; use 1 or 2",
        ),
        (
            LLAMA,
            {"engine": "deepspeed", "tensor_parallel_degree": 3},
            "tensor_parallel_degree 3 does not divide the number of attention heads 8",
        ),
    ],
)
def test_what_an_engine_would_refuse_as_it_loads_is_refused_by_the_plan(
    config: dict[str, Any], fields: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        planned(config, **fields)


def test_a_degree_that_the_engine_does_not_divide_a_family_by_is_no_candidate() -> None:
    fact = facts.instances()["ml.g5.12xlarge"]
    t5, llama = ModelFacts.of(SMALL), ModelFacts.of(LLAMA)

    assert degree_faults("accelerate", llama, Split(2), fact) == []
    assert degree_faults("accelerate", t5, Split(2), fact) == [
        "engine accelerate has no tensor parallelism of t5; use tensor_parallel_degree 1"
    ]
    assert degree_faults("deepspeed", t5, Split(2), fact) == []


@pytest.mark.parametrize("engine", ["vllm", "neuronx"])
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"hidden_size": None}, "'hidden_size' is None; it must be a whole number"),
        ({"model_type": None}, "'model_type' is missing; the plan knows"),
        ({"vocab_size": "x", "intermediate_size": -1}, "'intermediate_size' is -1"),
        ({"vocab_size": "x", "intermediate_size": -1}, "'vocab_size' is 'x'"),
        ({"quantization_config": []}, r"'quantization_config' is \[\]; it must be an object"),
    ],
)
def test_an_engine_that_is_planned_by_sizes_is_refused_where_config_json_has_none(
    engine: str, changes: dict[str, object], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        Plan.fit(spec_of(engine=engine), changed(changes))


def test_a_type_of_model_that_the_plan_does_not_know_is_refused_on_vllms_devices() -> None:
    with pytest.raises(InputError, match="'model_type' is 'mamba', which the plan does not know"):
        Plan.fit(spec_of(engine="vllm"), changed({"model_type": "mamba"}))


def test_guesses_of_the_native_engine_are_planned_with_a_byte_more_for_each_number_of_a_matrix() -> None:
    def weights(quantization: str = "none", **options: object) -> int:
        plan = planned(
            LLAMA, engine="native", tensor_parallel_degree=2, dtype="fp32", quantization=quantization, options=options
        )
        return sum(row.bytes for row in plan.memory.rows if row.what == "weights")

    without = weights()

    assert weights(speculative_length=0) == without
    assert 0.2 * without < weights(speculative_length=3) - without < 0.25 * without
    assert weights("int8", speculative_length=3) == weights("int8")  # whose guesses come from the text only
