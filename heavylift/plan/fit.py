"""Plan.fit: a model file and its lock become a plan. Pure: no clock, no network, no file but the tables of facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from heavylift.benchmark.slo import CONFIDENCE, TOLERANCE
from heavylift.benchmark.workload import Workload
from heavylift.errors import InputError
from heavylift.plan import facts, parts
from heavylift.plan.ahead import job_of
from heavylift.plan.checkpoint import weights_bytes
from heavylift.plan.demand import Demand
from heavylift.plan.digest import File, digest
from heavylift.plan.expect import alternatives_of, performance_of
from heavylift.plan.facts import InstanceFact
from heavylift.plan.instance import choose
from heavylift.plan.invocation import invocation
from heavylift.plan.lock import Lock
from heavylift.plan.parts import Decision
from heavylift.plan.performance.coefficients import Calibration
from heavylift.plan.plan import FORMAT, Plan
from heavylift.plan.properties import Properties, properties_of
from heavylift.plan.traffic import packaged
from heavylift.plan.variant import variant_of
from heavylift.serving.prompt import made_prompt
from heavylift.serving.render import NAME, render_properties
from heavylift.spec import ModelSpec


def fit(spec: ModelSpec, lock: Lock, calibrations: Sequence[Calibration] = (), *, wide: bool = False) -> Plan:
    """Answer every `auto` once. Raises InputError with every reason why the model does not fit, each with its name."""
    try:
        return _fit(spec, lock, calibrations, wide)
    except InputError as error:
        raise InputError(f"{spec.name}: {fault}" for fault in error.faults) from error


def _fit(spec: ModelSpec, lock: Lock, calibrations: Sequence[Calibration], wide: bool) -> Plan:
    if (reason := lock.stale(spec)) is not None:
        raise InputError(f"the lock is stale: {reason}; write it anew with `heavylift plan`")
    demand = Demand.of(spec, lock)
    choice, candidate, found, chosen = choose(demand, calibrations, wide=wide)
    expected = performance_of(found, candidate)
    in_time = invocation(expected, demand.new_tokens, streams=demand.engine.streams)
    properties = properties_of(demand, choice.degree)
    config_digest = _config_digest(properties, spec, lock)
    isolated = spec.enable_network_isolation
    job, prepared = job_of(spec, demand, properties, choice.degree, choice.fact)
    variant, timed = variant_of(spec, lock, choice.fact, demand.engine.name)
    plan = Plan(
        format=FORMAT,
        name=spec.name,
        description=spec.description,
        model=_model(spec, lock),
        engine=demand.engine.name,
        dtype=demand.dtype,
        quantization=spec.quantization,
        tensor_parallel_degree=choice.degree,
        pipeline_parallel_degree=spec.pipeline_parallel_degree,
        instance=_instance(choice.fact, spec.initial_instance_count),
        memory=choice.memory,
        serving=parts.Serving(**spec.serving.model_dump()),
        variant=variant,
        enable_network_isolation=isolated,
        properties=properties,
        environment=spec.environment,
        tags=spec.tags,
        weights_digest=lock.model.weights.digest,
        config_digest=config_digest,
        benchmark=_benchmark(spec, lock),
        gate=parts.Gate(**spec.gate.model_dump()),
        gate_digest=None,
        decisions=(*demand.decisions, *chosen, *in_time, *timed, *prepared, _tokens(spec, demand)),
        performance=expected,
        alternatives=alternatives_of(found),
        job=job,
    )
    return plan if plan.benchmark is None else replace(plan, gate_digest=_gate_digest(plan))


def _model(spec: ModelSpec, lock: Lock) -> parts.Model:
    config = lock.model.config or {}
    family = config.get("model_type")
    return parts.Model(
        source=lock.model.source,
        revision=lock.model.revision,
        family=family if isinstance(family, str) else None,
        parameters=lock.model.parameters,
        checkpoint_dtype=lock.model.dtype,
        weights_bytes=weights_bytes(lock),
        bytes=lock.model.weights.bytes,
        code=spec.code,
        prompt=None if spec.prompt is None else spec.prompt.model_dump(mode="json", exclude_defaults=True),
    )


def _instance(fact: InstanceFact, count: int) -> parts.Instance:
    price = None
    if fact.usd_per_hour is not None and fact.price_how != "unknown":
        origin = fact.price_origin
        price = parts.Price(fact.usd_per_hour, facts.REGION, fact.price_how, origin.date, origin.url)
    return parts.Instance(
        type=fact.type,
        count=count,
        vcpus=fact.vcpus,
        memory_gib=fact.memory_gib,
        accelerator=None if fact.accelerator is None else fact.accelerator.name,
        accelerators=fact.accelerators,
        accelerator_memory_gib=0.0 if fact.accelerator is None else fact.accelerator.memory_gib,
        nvme=fact.nvme,
        network_gbps=fact.network_gbps,
        price=price,
    )


UNSAID = (("confidence", CONFIDENCE), ("tolerance", TOLERANCE))  # a target that says nothing else means these


def _benchmark(spec: ModelSpec, lock: Lock) -> parts.Benchmark | None:
    if spec.benchmark is None:
        return None
    fields = spec.benchmark.model_dump()
    slo = tuple(
        {key: _number(value) for key, value in target.items() if (key, value) not in UNSAID} for target in fields["slo"]
    )
    workload = fields["workload"]
    if not isinstance(workload, str):
        workload = {"synthetic": _listed(workload["synthetic"])} if lock.workload is None else lock.workload
    if spec.inference_components is not None and spec.benchmark.inference_component is None:
        fields["inference_component"] = spec.inference_components[0].name  # the only one, or the rules ask which
    asynchronous = None if spec.async_inference is None else True
    load = spec.benchmark.load.to_dict()
    return parts.Benchmark(**{**fields, "workload": workload, "load": load, "slo": slo, "asynchronous": asynchronous})


def _listed(workload: dict[str, Any]) -> dict[str, Any]:
    """With lists for tuples, as JSON has them."""
    listed: dict[str, Any] = json.loads(json.dumps(workload))
    return listed


def _number(value: object) -> object:
    """90, not 90.0: as people write percentiles and limits."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tokens(spec: ModelSpec, demand: Demand) -> Decision:
    given = "max_new_tokens" in spec.options
    return Decision(
        "options.max_new_tokens",
        str(demand.new_tokens),
        "given" if given else "assumed",
        "the model file" if given else "for requests that give no number",
    )


def _config_digest(properties: Properties, spec: ModelSpec, lock: Lock) -> str:
    made = {NAME: render_properties(properties).encode(), **made_prompt(spec.prompt)}
    locked = [file for each in (lock.code, lock.prompt) if each is not None for file in each.files]
    return digest((*(File.of(path, content) for path, content in made.items()), *locked))


def _workload(asked: parts.Benchmark) -> Workload:
    named = asked.workload
    return packaged(named) if isinstance(named, str) else Workload.load(named, asked.seed)


def _gate_digest(plan: Plan) -> str:
    """SHA-256 of all that a measurement depends on; tags, descriptions and prices are not among it."""
    assert plan.benchmark is not None, "a plan without a benchmark has no gate"
    benchmark = json.loads(plan.benchmark_json())
    benchmark["subject"].pop("usd_per_hour", None)
    matters = {
        "benchmark": benchmark,
        "workload": _workload(plan.benchmark).digest,
        "weights": plan.weights_digest,
        "config": plan.config_digest,
        "environment": plan.environment,
        "enable_network_isolation": plan.enable_network_isolation,
        **({} if plan.job is None else {"artifact": plan.job.key}),
    }
    return hashlib.sha256(json.dumps(matters, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
