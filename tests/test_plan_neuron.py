"""Plans on Inf2 and Trn: the instances' own degrees, the cache of the compiled rows, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heavylift.errors import InputError
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.weights.published import published
from heavylift_runtime.engines.neuronx_build import Build
from heavylift_runtime.options import Options
from tests.conftest import ROOT

MODELS = ROOT / "models"


def plan_of(model: str, instance: str, **fields: Any) -> Plan:
    hub = {"gpt-j-6b": "EleutherAI/gpt-j-6b", "gpt-neox-20b": "EleutherAI/gpt-neox-20b"}
    source = {"id": hub.get(model, f"org/{model}"), "revision": "0" * 40}
    given = {"name": model, "model": source, "instance_type": instance, "dtype": "fp16", **fields}
    spec = ModelSpec.model_validate(given)
    return Plan.fit(spec, published(spec, Path(MODELS), MODELS / "published" / f"{model}.json"))


def test_the_plan_takes_the_smallest_degree_that_fits_and_counts_the_compiled_cache() -> None:
    plan = plan_of("gpt-j-6b", "ml.inf2.8xlarge", serving={"batch_size": 4}, options={"n_positions": "512,2048"})

    rows = {row.what: row for row in plan.memory.rows if row.where == "accelerator"}
    assert (plan.engine, plan.tensor_parallel_degree, plan.dtype) == ("neuronx", 2, "fp16")
    assert rows["cache"].bytes == 4 * 2048 * 28 * 2 * 4096 * 2 // 2  # rows, tokens, layers, keys and values, width
    assert rows["weights"].bytes == pytest.approx(6_050_882_784, rel=0.01)  # 2 bytes over 2 cores
    assert not any(row.where == "shm" for row in plan.memory.rows)
    assert dict(plan.properties)["option.entryPoint"] == "djl_python.transformers_neuronx"


def test_what_the_plan_writes_is_what_the_runtime_compiles() -> None:
    plan = plan_of("gpt-neox-20b", "ml.inf2.24xlarge", serving={"batch_size": 4}, options={"n_positions": 2048})

    build = Build.of(Options.parse(dict(plan.properties), {}), {"model_type": "gpt_neox", "num_attention_heads": 64})

    assert (build.library, build.degree, build.rows, build.longest) == ("tnx", plan.tensor_parallel_degree, 4, 2048)


def test_what_only_neuron_cores_compile_has_a_job_on_them_and_the_plan_says_why() -> None:
    shapes = {"backend": "neuron", "sequence_lengths": [512, 2048]}
    gptj = plan_of("gpt-j-6b", "ml.inf2.8xlarge", compile=shapes, engine="neuronx")
    llama = plan_of("llama-3-1-8b", "ml.inf2.24xlarge", compile=shapes, engine="neuronx", dtype="bf16")
    rounded = plan_of("llama-3-1-8b", "ml.inf2.24xlarge", compile=shapes, dtype="bf16", quantization="static_int8")

    split = plan_of("gpt-j-6b", "ml.inf2.24xlarge", compile=shapes, engine="neuronx", tensor_parallel_degree=4)

    services = [None if plan.job is None else plan.job.service for plan in (gptj, rounded, llama, split)]
    assert services == ["training", "training", "processing", None]
    why = next(each.why for each in split.decisions if each.field == "compile")
    assert "compiles on NeuronCores alone, and no type of SageMaker's training jobs has 4 of inf2's" in why
    assert dict(gptj.properties)["option.n_positions"] == "512,2048"


@pytest.mark.parametrize(
    ("model", "instance", "fields", "sentence"),
    [
        ("gpt-j-6b", "ml.inf2.24xlarge", {"tensor_parallel_degree": 12}, "12 does not divide .* heads 16"),
        (
            "gpt-j-6b",
            "ml.inf2.24xlarge",
            {"tensor_parallel_degree": 16},
            "16 is none of ml.inf2.24xlarge's: 1, 2, 4, 8",
        ),
        ("gpt-j-6b", "ml.inf2.8xlarge", {"options": {"n_positions": 4096}}, "the model has 2048 positions"),
        ("gpt-j-6b", "ml.inf2.8xlarge", {"quantization": "static_int8"}, "static_int8 is not of gptj on Neuron"),
        ("gpt-neox-20b", "ml.inf2.8xlarge", {}, "are missing"),
        (
            "gpt-j-6b",
            "ml.inf2.8xlarge",
            {"compile": {"backend": "neuron", "instance_type": "ml.m5.12xlarge"}},
            "'compile.instance_type' ml.m5.12xlarge compiles nothing for degree 1 of ml.inf2.8xlarge",
        ),
        ("flan-t5-xxl", "ml.inf2.24xlarge", {}, "no engine of this version serves model_type 't5' on neuron"),
    ],
)
def test_what_cannot_run_on_neuron_is_refused_with_the_reason(
    model: str, instance: str, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        plan_of(model, instance, **fields)
