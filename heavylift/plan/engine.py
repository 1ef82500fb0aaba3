"""Which engine serves a model, on which hardware, in which numbers: what the file says, or the plan's answer to `auto`.

Not what the model then needs (needs.py), nor the instance's type (instance.py).
"""

from __future__ import annotations

from dataclasses import replace

from heavylift.errors import InputError
from heavylift.plan import facts, memory
from heavylift.plan.checkpoint import config_of
from heavylift.plan.facts import Hardware
from heavylift.plan.images import hardware_of
from heavylift.plan.lock import Lock
from heavylift.plan.model import OWN_SCHEMES, ModelFacts
from heavylift.plan.parts import Decision
from heavylift.spec import ModelSpec
from heavylift_runtime.engines.registry import Capabilities, capabilities, engine_for, family_fault
from heavylift_runtime.errors import OptionsError

SMALL = 2 * memory.GIB  # bytes of weights up to which a CPU answers quickly enough; assumed


def hardware_to_try(spec: ModelSpec, weights: int) -> tuple[tuple[Hardware, ...], str]:
    """What to try, in order, and why."""
    if spec.instance_type != "auto":
        fact = facts.instances().get(spec.instance_type)
        assert fact is not None, "the model file's rules refuse types without facts"
        return (fact.hardware,), f"instance_type {fact.type} is given"
    size = f"{weights / 2**20:.1f} MiB of weights"
    if weights <= SMALL:
        return ("cpu", "gpu", "neuron"), f"{size}, at most {SMALL / memory.GIB:g} GiB: a CPU first, assumed"
    return ("gpu", "neuron", "cpu"), f"{size}, over {SMALL / memory.GIB:g} GiB: an accelerator first, assumed"


def chosen_engine(spec: ModelSpec, lock: Lock, hardware: tuple[Hardware, ...]) -> tuple[Capabilities, Decision]:
    """Raises OptionsError where none serves the family there, LoadError without a config.json to go by."""
    if spec.engine != "auto" or spec.code is not None:
        engine = capabilities("script" if spec.engine == "auto" else spec.engine)
        if spec.image is not None and spec.image.dlc is not None:
            engine = replace(engine, hardware=hardware_of(engine, spec.image.dlc.framework))
        if not set(hardware) & set(engine.hardware):
            runs_on = " or ".join(engine.hardware)
            raise OptionsError(
                f"engine {engine.name} runs on {runs_on}; instance_type {spec.instance_type} is {hardware[0]}"
            )
        if spec.engine == "auto":
            return engine, Decision("engine", engine.name, "computed", "the model file has 'code'")
        family = (lock.model.config or {}).get("model_type")
        fault = family_fault(engine, str(family)) if family is not None and engine.name != "native" else None
        if fault is not None:  # the native engine's table says it better
            raise OptionsError(fault)
        return engine, Decision("engine", engine.name, "given", "the model file")
    family = str(config_of(lock).get("model_type"))
    refusal: OptionsError | None = None
    for each in hardware:
        try:
            name, why = engine_for(family, each)
        except OptionsError as error:
            refusal = refusal or error
        else:
            return capabilities(name), Decision("engine", name, "computed", why)
    assert refusal is not None
    raise refusal


def chosen_dtype(spec: ModelSpec, lock: Lock) -> tuple[str, Decision]:
    """As the checkpoint was partitioned, the file says, or it is stored; InputError where the first two differ."""
    partition = lock.model.partition
    if partition is not None:
        if spec.dtype not in ("auto", partition.dtype):
            raise InputError(
                f"{lock.model.source} was partitioned in {partition.dtype}, the model file asks for {spec.dtype}; "
                f"partition it in {spec.dtype}, or leave the dtype to the plan"
            )
        return partition.dtype, Decision("dtype", partition.dtype, "computed", "the checkpoint was partitioned in it")
    if spec.dtype != "auto":
        return spec.dtype, Decision("dtype", spec.dtype, "given", "the model file")
    if lock.model.dtype in memory.BYTES_PER_ELEMENT:
        return lock.model.dtype, Decision("dtype", lock.model.dtype, "computed", "the checkpoint's own numbers")
    return "fp32", Decision("dtype", "fp32", "assumed", f"the checkpoint says {lock.model.dtype or 'nothing'}")


def stored_faults(spec: ModelSpec, engine: Capabilities, model: ModelFacts | None) -> list[str]:
    """A checkpoint's own quantization is what it is served in: the bytes of any other plan would be wrong."""
    if model is None or model.quantized == (None if spec.quantization == "none" else spec.quantization):
        return []
    asked, stored = spec.quantization, model.quantized
    if stored is None:
        lacks = f"quantization: {asked} is read from a checkpoint that has it, and config.json speaks of none"
        made = "; `heavylift quantize` writes one" if asked in ("awq", "gptq") else ""
        return [f"{lacks}; take one that has it{made}"] if asked in OWN_SCHEMES else []
    holds = f"the checkpoint's matrices are quantized: {stored}, by config.json's 'quantization_config'"
    if stored not in engine.quantizations:
        has = ", ".join(engine.quantizations)
        return [f"{holds}; engine {engine.name} has {has}: take another checkpoint, or engine: script"]
    return [f"{holds}; the model file says quantization: {asked}; write quantization: {stored}"]
