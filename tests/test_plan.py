"""Plan.fit: every auto answered, with its arithmetic, or a refusal that says what is missing.

Timeouts and volumes: test_plan_variant.py. What is written of a plan: test_plan_document.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heavylift.errors import InputError
from heavylift.plan.digest import File, digest
from heavylift.plan.lock import FORMAT, Lock, LockedModel, Partitioned, Weights
from heavylift.plan.memory import GIB
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift_runtime.families import family_of
from tests.locked import SMALL, XXL, lock_of, spec_of, why


def test_a_small_t5_gets_the_cheapest_cpu_type_with_two_vcpus_for_each_rank() -> None:
    plan = Plan.fit(spec_of(tensor_parallel_degree=2), lock_of(SMALL))

    assert (plan.engine, plan.dtype, plan.tensor_parallel_degree) == ("native", "fp32", 2)
    assert plan.instance.type == "ml.c6i.xlarge"
    assert plan.variant.volume_size_in_gb == 30
    assert "cheaper types do not fit (ml.m7i.large has 2 vCPUs; 2 ranks want 4)" in why(plan, "instance_type")


def test_an_auto_degree_is_the_smallest_that_fits() -> None:
    plan = Plan.fit(spec_of(), lock_of(SMALL))

    assert (plan.tensor_parallel_degree, plan.instance.type) == (1, "ml.c6i.large")


def test_a_degree_that_does_not_divide_the_heads_is_refused_with_those_that_do() -> None:
    with pytest.raises(InputError, match="degree 8 does not divide 'num_heads' 4; use 1 or 2 or 4"):
        Plan.fit(spec_of(tensor_parallel_degree=8), lock_of(SMALL))


def test_weights_are_counted_for_each_rank_from_the_familys_table() -> None:
    plan = Plan.fit(spec_of(tensor_parallel_degree=4, instance_type="ml.m5.24xlarge"), lock_of(XXL))

    weights = next(row for row in plan.memory.rows if row.what == "weights")

    assert weights.bytes == 4 * family_of(XXL).bytes_per_rank(XXL, 4, 4)
    assert weights.bytes > 44e9  # 11 B parameters in fp32
    assert plan.memory.needed("host") == sum(row.bytes for row in plan.memory.rows if row.where == "host")
    assert next(row.bytes for row in plan.memory.rows if row.where == "shm") == 4 * 2 * 2**20


def test_a_plan_that_does_not_fit_names_the_missing_gigabytes_and_the_cheapest_type_that_fits() -> None:
    with pytest.raises(InputError) as caught:
        Plan.fit(spec_of(instance_type="ml.c6i.xlarge"), lock_of(XXL))

    (fault,) = caught.value.faults
    assert "ml.c6i.xlarge needs" in fault and "and has 8.00 GiB" in fault
    assert "GiB are missing; the cheapest type that fits is ml.m6i.4xlarge, $0.9216 per hour" in fault


def test_the_cheapest_type_that_is_named_does_fit() -> None:
    brief: dict[str, Any] = {"benchmark": None, "options": {"max_new_tokens": 8}}  # no target decides

    named = Plan.fit(spec_of(instance_type="ml.m6i.4xlarge", **brief), lock_of(XXL))
    chosen = Plan.fit(spec_of(**brief), lock_of(XXL))

    assert named.memory.missing("host") == 0
    assert named == replace(chosen, decisions=named.decisions, alternatives=named.alternatives)


GPT2 = {"model_type": "gpt2", "vocab_size": 500, "n_positions": 96, "n_embd": 64, "n_layer": 2, "n_head": 4}


def test_a_model_with_few_positions_is_planned_for_prompts_that_it_can_read() -> None:
    plan = Plan.fit(spec_of(benchmark=None), lock_of(GPT2))

    assert "32 tokens in, 64 out" in why(plan, "traffic")


def test_more_new_tokens_than_positions_are_refused() -> None:
    with pytest.raises(InputError, match=r"max_new_tokens is 96, and the model has 96 positions .* to at most 95"):
        Plan.fit(spec_of(options={"max_new_tokens": 96}), lock_of(GPT2))


def test_a_partitioned_checkpoint_decides_degree_and_dtype() -> None:
    lock = lock_of(SMALL, partition=Partitioned(4, "bf16"))

    plan = Plan.fit(spec_of(), lock)

    assert (plan.tensor_parallel_degree, plan.dtype) == (4, "bf16")
    assert why(plan, "tensor_parallel_degree") == "the checkpoint was partitioned for it"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"tensor_parallel_degree": 2}, "partitioned for tensor_parallel_degree 4, the model file asks for 2"),
        ({"dtype": "fp32"}, "partitioned in bf16, the model file asks for fp32"),
    ],
)
def test_another_degree_or_dtype_than_the_partitions_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Plan.fit(spec_of(**asked), lock_of(SMALL, partition=Partitioned(4, "bf16")))


def test_stages_are_processes_with_cores_and_passes_of_their_own() -> None:
    fields = {"tensor_parallel_degree": 1, "engine": "native"}
    whole, staged = (Plan.fit(spec_of(**fields, pipeline_parallel_degree=stages), lock_of(SMALL)) for stages in (1, 2))
    before, after = ({row.what: row.bytes for row in plan.memory.rows} for plan in (whole, staged))

    assert (whole.instance.vcpus, staged.instance.vcpus) == (2, 4)
    assert (after["weights"], after["cache"]) == (before["weights"], before["cache"])
    assert after["activations"] == 2 * before["activations"]
    assert after["processes"] * 2 == before["processes"] * 3  # the server is one of them


def test_half_the_bytes_are_needed_in_bf16() -> None:
    whole = Plan.fit(spec_of(instance_type="ml.m5.24xlarge"), lock_of(XXL))
    half = Plan.fit(spec_of(instance_type="ml.m5.24xlarge", dtype="bf16"), lock_of(XXL))

    assert 2 * half.memory.rows[0].bytes == whole.memory.rows[0].bytes
    assert dict(half.properties)["option.dtype"] == "bf16"


def test_quantized_matrices_take_less_and_tables_what_they_took() -> None:
    plain, quantized = (
        next(row for row in Plan.fit(spec_of(dtype="bf16", quantization=scheme), lock_of(SMALL)).memory.rows)
        for scheme in ("none", "int8")
    )

    table = 2 * SMALL["vocab_size"] * SMALL["d_model"]
    assert plain.what == quantized.what == "weights"
    assert (plain.bytes - table) / 2 <= quantized.bytes - table < 0.51 * (plain.bytes - table)


def test_a_script_is_planned_by_bytes_alone() -> None:
    spec = spec_of(code="c", engine="script")

    plan = Plan.fit(spec, lock_of(None, size=GIB, code=True))

    assert (plan.engine, plan.model.family, plan.model.code) == ("script", None, "c")
    assert dict(plan.properties)["option.entryPoint"] == "model.py" and plan.properties[0] == ("engine", "Python")
    assert next(row.bytes for row in plan.memory.rows if row.what == "weights") == GIB


def test_a_large_script_gets_a_gpu_that_holds_it_and_no_volume_beside_its_nvme() -> None:
    plan = Plan.fit(spec_of(code="c"), lock_of(None, size=12 * GIB, code=True))

    assert (plan.engine, plan.instance.type) == ("script", "ml.g6.2xlarge")
    assert plan.variant.volume_size_in_gb is None
    assert plan.memory.missing("host") == plan.memory.missing("accelerator") == 0


def test_an_engine_on_hardware_it_does_not_run_on_is_refused() -> None:
    with pytest.raises(InputError, match="engine native runs on cpu; instance_type ml"):
        Plan.fit(spec_of(engine="native", instance_type="ml.g5.xlarge"), lock_of(SMALL))


def test_a_family_that_no_engine_has_is_told_to_bring_a_script() -> None:
    lock = lock_of(None, size=GIB)
    falcon = replace(lock, model=replace(lock.model, config={"model_type": "mamba"}))

    with pytest.raises(
        InputError, match=r"no engine of this version serves model_type 'mamba' .*model\.py of your own"
    ):
        Plan.fit(spec_of(), falcon)
    with pytest.raises(InputError, match=r"path:m has no config\.json; only engine: script can serve it"):
        Plan.fit(spec_of(), lock)


def test_weights_with_too_few_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="path:m holds 5 parameters, its "):
        Plan.fit(spec_of(), lock_of(SMALL, parameters=5))


def test_options_that_the_runtime_would_refuse_are_refused_now() -> None:
    with pytest.raises(InputError, match=r"unknown key 'option\.max_new_token' for engine native"):
        Plan.fit(spec_of(options={"max_new_token": 5}), lock_of(SMALL))
    with pytest.raises(InputError, match=r"option\.quantize=tea is not of engine native"):
        Plan.fit(spec_of(options={"quantize": "tea"}), lock_of(SMALL))
    Plan.fit(spec_of(code="c", options={"quantize": "tea"}), lock_of(None, size=9, code=True))  # the script's own word


def test_every_auto_has_its_decision() -> None:
    autos = [name for name, field in ModelSpec.model_fields.items() if field.default == "auto"]

    plan = Plan.fit(spec_of(), lock_of(SMALL))

    assert set(autos) <= {row.field for row in plan.decisions}
    assert all(row.why for row in plan.decisions)


def test_a_family_that_only_vllm_has_is_planned_by_vllms_own_identity() -> None:
    config = {
        "model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "hidden_size": 3584, "num_hidden_layers": 42,
        "intermediate_size": 14336, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
        "vocab_size": 256000, "max_position_embeddings": 8192, "sliding_window": 4096,
    }  # fmt: skip
    files = (File("model.safetensors", 2 * 9_241_705_984, "d" * 64),)
    model = LockedModel("path:m", None, config, Weights(digest(files), files[0].size, files), "bf16", 9_241_705_984)

    plan = Plan.fit(spec_of(benchmark=None), Lock(FORMAT, model, None))

    activations = next(row for row in plan.memory.rows if row.what == "activations")
    assert plan.engine == "vllm" and "vLLM 0.19" in activations.formula
    with pytest.raises(InputError, match="tensor_parallel_degree 3 does not divide the number of attention heads 16"):
        Plan.fit(spec_of(benchmark=None, tensor_parallel_degree=3), Lock(FORMAT, model, None))


def test_a_load_that_no_thousand_instances_answer_is_refused_with_their_number() -> None:
    with pytest.raises(InputError, match=r"enough for the load: ml\..*takes \d+ instances; one endpoint has at most"):
        Plan.fit(
            spec_of(traffic={"input_tokens": 512, "output_tokens": 64, "requests_per_second": 1e5}), lock_of(SMALL)
        )
