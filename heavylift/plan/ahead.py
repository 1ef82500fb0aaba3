"""The job that makes a model's artifact before it is served: weights split over the ranks, or compiled for Neuron.

Not the job itself: the runtime's `partition`, `compile` and `train` commands, started by heavylift_cdk.prepared. Its
key names all that goes into the artifact, so that another degree, dtype or compiler never meets the files of this one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from math import ceil, prod
from typing import Any

from heavylift.errors import InputError
from heavylift.plan import facts, times
from heavylift.plan.demand import Demand
from heavylift.plan.facts import InstanceFact
from heavylift.plan.images import NEURON_SDK
from heavylift.plan.memory import BYTES_PER_ELEMENT, GIB
from heavylift.plan.parts import Decision, Job
from heavylift.plan.properties import Properties
from heavylift.plan.validity.neuron import neuron_degrees
from heavylift.spec import ModelSpec
from heavylift_runtime.engines.registry import NXD_INFERENCE, Capabilities

FORMAT = "heavylift.artifact/1"
PARTITION_FORMAT, NEURON_FORMAT = "heavylift.partition/1", "heavylift.neuron/1"
MADE_OF = {"int8": "int8", "dynamic_int8": "int8", "int4": "int4"}
"""Quantizations that round plain weights → what a partition holds of them. Others lie in the checkpoint itself."""
PROCESS = 2 * GIB  # Python, torch and its libraries; assumed
COPIES = 4  # of the largest tensor at once: as stored, widened, rounded, and a rank's part; assumed
CORES_ONLY = "Transformers NeuronX compiles on NeuronCores alone"
TRAINS = {"inf2": "trn1", "trn1": "trn1", "trn1n": "trn1", "trn2": "trn2"}
"""Family that serves → the one of SageMaker's training jobs (TrainingInstanceType has no Inf2) with the same
NeuronCores, for which the compiler makes the same (GitHub, aws-neuron/transformers-neuronx #31)."""
COMPILER = 32 * GIB  # of neuronx-cc, beside the weights; assumed
LEAST_VCPUS = 4  # SageMaker offers the smallest types of some families for endpoints only
START_SECONDS = 420  # a machine, the image; assumed
CUT_BYTES_PER_SECOND = 150e6  # read, split, hashed and written by one process; assumed
COMPILE_SECONDS = 4 * 3600  # assumed
SAFETY, LONGEST = 3, 5 * 24 * 3600


def job_of(
    spec: ModelSpec, demand: Demand, properties: Properties, degree: int, serves: InstanceFact
) -> tuple[Job | None, list[Decision]]:
    """None where each rank splits as it loads and nothing is compiled ahead. Raises InputError with every fault."""
    if spec.compile is not None and spec.compile.backend == "neuron":
        return _compile(spec, demand, properties, degree, serves)
    if spec.partition.when == "ahead_of_time":
        return _partition(spec, demand, degree)
    return None, []


def key_of(kind: str, source: str, options: Mapping[str, str], made_by: Mapping[str, Any]) -> str:
    """SHA-256 (hex): of the source's digest, what is asked, and the format and the tools that answer."""
    content = {"format": FORMAT, "kind": kind, "source": source, "options": dict(options), **made_by}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def partition_job(
    source: str,
    engine: Capabilities,
    *,
    degree: int,
    stages: int,
    dtype: str,
    form: str,
    stored: str,
    instance_type: str,
    volume_size_in_gb: int,
    max_seconds: int,
) -> Job:
    """Splits the model whose files have the digest `source`; `form` it is rounded to, `stored` it has already."""
    options = {
        "OPTION_ENGINE": engine.engine_property,
        "OPTION_TENSOR_PARALLEL_DEGREE": str(degree),
        "OPTION_PIPELINE_PARALLEL_DEGREE": str(stages),
        "OPTION_DTYPE": dtype,
        "OPTION_QUANTIZE": form,
    }
    if engine.entry_point is not None:
        options["OPTION_ENTRYPOINT"] = engine.entry_point
    expected = {
        "source_digest": source,
        "dtype": dtype,
        "quantization": form if form != "none" else stored,
        "tensor_parallel_degree": degree,
        "pipeline_parallel_degree": stages,
    }
    key = key_of("partition", source, options, {"writes": PARTITION_FORMAT})
    return Job("partition", key, instance_type, volume_size_in_gb, max_seconds, options, expected)


def compile_job(
    source: str,
    options: Mapping[str, str],
    *,
    family: str,
    degree: int,
    dtype: str,
    sdk: str,
    instance_type: str,
    volume_size_in_gb: int,
    max_seconds: int,
) -> Job:
    """Compiles the model whose files have the digest `source` for a family such as inf2; `options` as OPTION_*."""
    given = dict(options) | {"NEURON_PLATFORM_TARGET_OVERRIDE": family}
    key = key_of("compile", source, given, {"writes": NEURON_FORMAT, "sdk": sdk})
    expected = {"instance": family, "degree": degree, "dtype": dtype}
    return Job("compile", key, instance_type, volume_size_in_gb, max_seconds, given, expected)


def _partition(spec: ModelSpec, demand: Demand, degree: int) -> tuple[Job, list[Decision]]:
    lock, engine = demand.lock, demand.engine
    faults = []
    if not engine.aot_partition or demand.family is None:
        faults.append(f"'partition: {{when: ahead_of_time}}' is nothing that engine {engine.name} can load")
    if lock.model.partition is not None:
        faults.append(f"{lock.model.source} is partitioned already; leave out 'partition'")
    if faults or demand.family is None:
        raise InputError(faults)
    stored = BYTES_PER_ELEMENT.get(lock.model.dtype or "", 4)
    source = lock.model.weights.bytes
    made = ceil(source * max(1, BYTES_PER_ELEMENT[demand.dtype] / stored))
    assert lock.model.config is not None, "a family was found in it"
    largest = max(prod(weight.shape) for weight in demand.family.weights(lock.model.config))
    memory = PROCESS + COPIES * 4 * largest
    why = f"{PROCESS // GIB} GiB + {COPIES} · {largest} numbers · 4 bytes (the largest tensor)"
    given, cutting = spec.partition.instance_type, made / CUT_BYTES_PER_SECOND
    fact, chosen = _machine("partition", given, memory, why, source + made, cutting, _processors())
    seconds = START_SECONDS + (source + made) / times.bandwidth(fact) + cutting
    job = partition_job(
        lock.model.weights.digest,
        engine,
        degree=degree,
        stages=spec.pipeline_parallel_degree,
        dtype=demand.dtype,
        form=MADE_OF.get(spec.quantization, "none"),
        stored=_stored_form(lock.model.config),
        instance_type=fact.type,
        volume_size_in_gb=_volume(source + made),
        max_seconds=min(LONGEST, ceil(SAFETY * seconds)),
    )
    return job, [chosen, _decision("partition", job, seconds)]


def _compile(
    spec: ModelSpec, demand: Demand, properties: Properties, degree: int, serves: InstanceFact
) -> tuple[Job | None, list[Decision]]:
    asked, lock, family = spec.compile, demand.lock, serves.type.split(".")[1]
    assert asked is not None and asked.backend == "neuron"
    faults = []
    if demand.engine.name != "neuronx":
        faults.append(f"'compile.backend' neuron makes nothing that engine {demand.engine.name} can load")
    if spec.enable_network_isolation:
        faults.append("'compile' cannot be combined with 'enable_network_isolation': what was compiled comes from S3")
    needs_cores, given = _needs_cores(spec, demand), facts.instances().get(asked.instance_type)
    with_cores = [each for each in facts.instances().values() if _trains(each, family, degree)]
    if given is not None and given not in with_cores and (needs_cores or given.hardware != "cpu"):
        able = [*([] if needs_cores else ["a type without accelerators"]), *(each.type for each in with_cores)]
        faults.append(
            f"'compile.instance_type' {given.type} compiles nothing for degree {degree} of {serves.type}: SageMaker's "
            f"jobs have {' and '.join(able) or 'no type'} for it"
        )
    if faults:
        raise InputError(faults)
    source = lock.model.weights.bytes
    memory = COMPILER + 2 * source
    why = f"{COMPILER // GIB} GiB + 2 · {source} bytes of weights"
    if needs_cores and asked.instance_type == "auto" and not _cheapest(with_cores, memory, 0, 0):
        why = f"{CORES_ONLY}, and no type of SageMaker's training jobs has {degree} of {family}'s with {why}"
        return None, [Decision("compile", "as it loads", "computed", why)]
    fact, chosen = _machine(
        "compile",
        asked.instance_type,
        memory,
        why,
        2 * source,
        COMPILE_SECONDS,
        with_cores if needs_cores else _processors(),
    )
    job = compile_job(
        lock.model.weights.digest,
        _options(properties),
        family=family,
        degree=degree,
        dtype=demand.dtype,
        sdk=NEURON_SDK if asked.neuron_sdk is None else asked.neuron_sdk,
        instance_type=fact.type,
        volume_size_in_gb=_volume(3 * source),
        max_seconds=SAFETY * COMPILE_SECONDS,
    )
    return job, [chosen, _decision("compile", job, COMPILE_SECONDS)]


def _needs_cores(spec: ModelSpec, demand: Demand) -> bool:
    """Neuron's older library compiles on NeuronCores alone: a model that the newer one has not, or not in int8."""
    config = demand.lock.model.config or {}
    newer = config.get("model_type") in NXD_INFERENCE and spec.quantization == "none"
    return not newer or spec.options.get("model_loader") == "tnx"


def _trains(fact: InstanceFact, family: str, degree: int) -> bool:
    """SageMaker's training jobs have the type, and its cores run what is compiled for the family at this degree."""
    return fact.type.split(".")[1] == TRAINS.get(family) and degree in neuron_degrees(fact)


def _options(properties: Properties) -> dict[str, str]:
    """The engine and its options, as the environment that the runtime reads as the same."""
    return {
        f"OPTION_{key.removeprefix('option.').upper()}": value
        for key, value in properties
        if key == "engine" or key.startswith("option.")
    }


def _processors() -> list[InstanceFact]:
    """Types without accelerators that SageMaker offers for processing jobs."""
    return [each for each in facts.instances().values() if each.hardware == "cpu" and each.vcpus >= LEAST_VCPUS]


def _cheapest(
    able: Iterable[InstanceFact], memory: int, moved: int, at_work: float
) -> tuple[float, InstanceFact] | None:
    """The one with enough memory that costs least for the bytes that it moves and its seconds at work, and the US
    dollars; None: none has."""
    priced = [
        (fact.usd_per_hour * (START_SECONDS + moved / times.bandwidth(fact) + at_work) / 3600, order, fact)
        for order, fact in enumerate(able)
        if fact.memory_gib * GIB >= memory and fact.usd_per_hour is not None
    ]
    if not priced:
        return None
    dollars, _, fact = min(priced)
    return dollars, fact


def _machine(
    section: str, given: str, memory: int, why: str, moved: int, at_work: float, able: Iterable[InstanceFact]
) -> tuple[InstanceFact, Decision]:
    """The given type, or the cheapest of the able ones."""
    field, needs = f"{section}.instance_type", f"needs {memory / GIB:.1f} GiB: {why}"
    known = facts.instances()
    if given != "auto":
        if given not in known:
            raise InputError(f"'{field}': {facts.unknown_type(given)}")
        fact = known[given]
        if fact.memory_gib * GIB < memory:
            raise InputError(f"'{field}' {fact.type} has {fact.memory_gib:g} GiB; the job {needs}")
        return fact, Decision(field, given, "given", needs)
    found = _cheapest(able, memory, moved, at_work)
    if found is None:
        raise InputError(f"no processor type in the fact table has enough memory for '{section}': the job {needs}")
    dollars, fact = found
    return fact, Decision(field, fact.type, "computed", f"the cheapest, about {dollars:.2f} USD a run; it {needs}")


def _decision(field: str, job: Job, seconds: float) -> Decision:
    long = "; CloudFormation waits an hour, and the next deployment finds what was made" if seconds > 3300 else ""
    why = f"a job on {job.instance_type} makes artifacts/{job.key[:12]}…/, about {seconds / 60:.0f} min, assumed{long}"
    return Decision(field, "ahead of time", "given", why)


def _volume(bytes_: int) -> int:
    return ceil(times.VOLUME_FACTOR * bytes_ / 1e9) + times.VOLUME_FLOOR


def _stored_form(config: Mapping[str, Any]) -> str:
    """How a checkpoint's matrices lie there, as the partition's manifest will say it."""
    stored = config.get("quantization_config")
    method = stored.get("quant_method") if isinstance(stored, dict) else None
    return method if method in ("awq", "gptq") else "none"
