"""What is made ahead of time: when there is a job, what its key depends on, which machine it gets, what is refused."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.ahead import LEAST_VCPUS, key_of
from heavylift.plan.lock import Partitioned
from heavylift.plan.parts import Job
from heavylift.plan.plan import Plan
from tests.test_plan import SMALL, XXL, lock_of, spec_of

AHEAD = {"partition": {"when": "ahead_of_time"}, "tensor_parallel_degree": 2, "engine": "native"}
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu",
    "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
NEURON = {
    "engine": "neuronx", "instance_type": "ml.trn1.2xlarge", "tensor_parallel_degree": 2, "dtype": "bf16",
    "compile": {"backend": "neuron", "sequence_lengths": [512, 2048]}, "serving": {"batch_size": 4},
}  # fmt: skip


def job_of(config: dict[str, Any] = SMALL, **fields: Any) -> Job:
    job = Plan.fit(spec_of(**{**AHEAD, **fields}), lock_of(config)).job
    assert job is not None
    return job


def test_without_being_asked_there_is_no_job_and_the_models_own_files_are_served() -> None:
    plan = Plan.fit(spec_of(tensor_parallel_degree=2), lock_of(SMALL))

    assert plan.job is None
    assert plan.served_prefix == plan.weights_prefix


def test_the_artifact_is_served_and_the_gate_measures_it_anew() -> None:
    plan, plain = (
        Plan.fit(spec_of(**fields), lock_of(SMALL))
        for fields in (AHEAD, {"tensor_parallel_degree": 2, "engine": "native"})
    )

    assert plan.job is not None
    assert plan.served_prefix == f"artifacts/{plan.job.key}/"
    assert plan.config_digest == plain.config_digest
    assert plan.gate_digest != plain.gate_digest
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    "other",
    [{"tensor_parallel_degree": 4}, {"dtype": "bf16"}, {"quantization": "int8"}, {"quantization": "int4"},
     {"engine": "fastertransformer"}],
)  # fmt: skip
def test_what_goes_into_the_files_is_in_their_key(other: dict[str, Any]) -> None:
    assert job_of(**other).key != job_of().key


@pytest.mark.parametrize(
    "other", [{"serving": {"batch_size": 8}}, {"options": {"max_new_tokens": 9}}, {"tags": {"a": "b"}}]
)
def test_what_does_not_is_not(other: dict[str, Any]) -> None:
    assert job_of(**other) == job_of()


def test_another_model_is_another_key() -> None:
    assert key_of("partition", "a" * 64, {}, {}) != key_of("partition", "b" * 64, {}, {})
    assert key_of("partition", "a" * 64, {}, {}) != key_of("compile", "a" * 64, {}, {})


def test_rounding_while_serving_takes_rounded_files_and_the_manifest_must_say_so() -> None:
    job = job_of(quantization="dynamic_int8")

    assert job.options["OPTION_QUANTIZE"] == "int8"
    assert job.expected["quantization"] == "int8"
    assert job.key == job_of(quantization="int8").key


def test_the_machine_is_a_processor_that_sagemaker_has_for_jobs_with_room_for_the_largest_tensor() -> None:
    job = job_of(XXL)
    fact = facts.instances()[job.instance_type]
    types = botocore.session.get_session().get_service_model("sagemaker").shape_for("ProcessingInstanceType").enum

    assert fact.hardware == "cpu"
    assert fact.memory_gib * 2**30 >= 2 * 2**30 + 4 * 4 * 32128 * 4096
    assert job.volume_size_in_gb > 2 * 44
    able = [each.type for each in facts.instances().values() if each.hardware == "cpu" and each.vcpus >= LEAST_VCPUS]
    assert set(able) <= set(types), "whichever is chosen"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"partition": {"when": "ahead_of_time", "instance_type": "ml.nope.large"}}, "'partition.instance_type': "),
        (
            {"partition": {"when": "ahead_of_time", "instance_type": "ml.c6i.large"}, "tensor_parallel_degree": 8},
            "'partition.instance_type' ml.c6i.large has 4 GiB; the job needs",
        ),
    ],
)
def test_a_machine_that_cannot_do_it_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        job_of({**XXL, "vocab_size": 250_112}, **fields)


def test_an_engine_that_loads_no_partition_and_a_model_that_is_one_are_refused() -> None:
    with pytest.raises(InputError, match="is nothing that engine accelerate can load"):
        Plan.fit(spec_of(**{**AHEAD, "engine": "accelerate", "tensor_parallel_degree": 1}), lock_of(SMALL))
    with pytest.raises(InputError, match="path:m is partitioned already; leave out 'partition'"):
        Plan.fit(spec_of(**AHEAD), lock_of(SMALL, partition=Partitioned(2, "fp32")))


def test_neurons_key_has_family_sdk_batch_and_lengths() -> None:
    def compiled(**fields: Any) -> Job:
        job = Plan.fit(spec_of(**{**NEURON, **fields}), lock_of(LLAMA, dtype="bf16")).job
        assert job is not None
        return job

    first = compiled()
    lengths = {"backend": "neuron", "sequence_lengths": [512, 1024]}
    sdk = {**NEURON["compile"], "neuron_sdk": "2.18.2"}

    assert first.kind == "compile" and first.expected["instance"] == "trn1"
    assert first.options["NEURON_PLATFORM_TARGET_OVERRIDE"] == "trn1"
    assert first.options["OPTION_N_POSITIONS"] == "512,2048"
    assert facts.instances()[first.instance_type].hardware == "cpu"
    others = [compiled(compile=lengths), compiled(compile=sdk), compiled(instance_type="ml.inf2.8xlarge"),
              compiled(serving={"batch_size": 2})]  # fmt: skip
    assert len({first.key, *(each.key for each in others)}) == 5


def test_what_neuron_compiles_is_one_batch_and_comes_from_s3() -> None:
    batches = {"backend": "neuron", "batch_sizes": [1, 4]}

    with pytest.raises(InputError, match=r"got 1, 4, and serving\.batch_size 4"):
        Plan.fit(spec_of(**{**NEURON, "compile": batches}), lock_of(LLAMA, dtype="bf16"))
    with pytest.raises(InputError, match="cannot be combined with 'enable_network_isolation'"):
        Plan.fit(spec_of(**{**NEURON, "enable_network_isolation": True}), lock_of(LLAMA, dtype="bf16"))


def test_torchs_compiler_is_vllms_and_gets_its_words() -> None:
    asked = {"backend": "torch", "cuda_graphs": True, "batch_sizes": [4, 1]}
    fields = {"engine": "vllm", "instance_type": "ml.g5.2xlarge", "dtype": "bf16", "compile": asked}

    plan = Plan.fit(spec_of(**fields), lock_of(LLAMA, dtype="bf16"))

    wanted = '{"cudagraph_mode":"FULL_AND_PIECEWISE","cudagraph_capture_sizes":[1,4]}'
    assert dict(plan.properties)["option.compilation_config"] == wanted
    assert plan.job is None
    with pytest.raises(InputError, match="torch is engine vllm's; the engine is native"):
        Plan.fit(spec_of(engine="native", compile={"backend": "torch"}), lock_of(SMALL))


def test_the_file_and_the_runtime_name_the_same_engines() -> None:
    from heavylift.spec.rules.container import LOADS_PARTITIONS
    from heavylift_runtime.job import _PARTITIONED

    assert LOADS_PARTITIONS == _PARTITIONED
