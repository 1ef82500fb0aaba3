"""What is made ahead of time: when there is a job, what its key depends on, which machine it gets, what is refused."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest

from heavylift.errors import InputError
from heavylift.plan import facts
from heavylift.plan.ahead import LEAST_VCPUS, TRAINS, key_of
from heavylift.plan.lock import Partitioned
from heavylift.plan.parts import Job
from heavylift.plan.plan import Plan
from heavylift.plan.validity.neuron import neuron_degrees
from tests.conftest import ROOT
from tests.locked import SMALL, XXL, lock_of, spec_of

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


GPT_J = json.loads((ROOT / "models" / "published" / "gpt-j-6b.json").read_text())
GPT_NEOX = json.loads((ROOT / "models" / "published" / "gpt-neox-20b.json").read_text())


def on_cores(config: dict[str, Any], degree: int, type_: str, **asked: Any) -> tuple[Job | None, str]:
    """The job of a model that only NeuronCores compile, and why it is as it is."""
    fields = {**NEURON, "dtype": "fp16", "tensor_parallel_degree": degree, "instance_type": type_}
    compile_ = {**NEURON["compile"], **asked}
    plan = Plan.fit(spec_of(**{**fields, "compile": compile_}), lock_of(config, dtype="fp16"))
    return plan.job, next(each.why for each in plan.decisions if each.field in ("compile", "compile.instance_type"))


@pytest.mark.parametrize(
    ("config", "degree", "serves"), [(GPT_J, 2, "ml.inf2.8xlarge"), (GPT_NEOX, 8, "ml.inf2.24xlarge")]
)
def test_what_only_neuroncores_compile_gets_a_training_job_that_has_them(
    config: dict[str, Any], degree: int, serves: str
) -> None:
    job, _ = on_cores(config, degree, serves)
    types = botocore.session.get_session().get_service_model("sagemaker").shape_for("TrainingInstanceType").enum

    assert job is not None
    assert (job.service, job.instance_type) == ("training", "ml.trn1.32xlarge")
    assert job.instance_type in types and serves not in types
    assert degree in neuron_degrees(facts.instances()[job.instance_type])
    assert job.options["NEURON_PLATFORM_TARGET_OVERRIDE"] == "inf2" == job.expected["instance"]


def test_every_family_of_trainium_that_a_plan_may_serve_on_is_one_of_training_jobs() -> None:
    types = botocore.session.get_session().get_service_model("sagemaker").shape_for("TrainingInstanceType").enum
    families = {each.type.split(".")[1] for each in facts.instances().values() if neuron_degrees(each)}

    assert set(TRAINS) == families
    assert all(any(each.startswith(f"ml.{family}.") for each in types) for family in TRAINS.values())


def test_cores_that_no_training_job_has_at_once_compile_as_the_endpoint_starts() -> None:
    job, why = on_cores(GPT_J, 4, "ml.inf2.24xlarge")

    assert job is None
    assert why.startswith(
        "Transformers NeuronX compiles on NeuronCores alone, and no type of SageMaker's training jobs"
    )


@pytest.mark.parametrize(
    ("type_", "able"), [("ml.inf2.8xlarge", "ml.trn1.2xlarge and ml.trn1.32xlarge"), ("ml.m5.12xlarge", "ml.trn1.")]
)
def test_a_machine_that_cannot_compile_is_refused_with_those_that_can(type_: str, able: str) -> None:
    with pytest.raises(InputError, match=f"'compile.instance_type' {type_} compiles nothing for degree 2 of .*{able}"):
        on_cores(GPT_J, 2, "ml.inf2.8xlarge", instance_type=type_)


def test_a_machine_that_nobody_knows_is_refused_also_where_no_job_could_compile() -> None:
    with pytest.raises(InputError, match=r"'compile.instance_type': .*ml\.nope\.large"):
        on_cores(GPT_J, 4, "ml.inf2.24xlarge", instance_type="ml.nope.large")


def test_neuroncores_may_be_asked_for_what_processors_compile_too() -> None:
    compile_ = {**NEURON["compile"], "instance_type": "ml.trn1.32xlarge"}

    job = Plan.fit(spec_of(**{**NEURON, "compile": compile_}), lock_of(LLAMA, dtype="bf16")).job

    assert job is not None and job.service == "training"
