"""Number formats by hardware. Not the quality they cost: that is measured, never assumed."""

from __future__ import annotations

from heavylift.plan.facts import Accelerator
from heavylift.plan.facts.precision import precisions, support

SCHEMES = {
    "dynamic_int8": "int8",
    "smoothquant": "int8",
    "static_int8": "int8",
    "bitsandbytes8": "bitsandbytes",
    "bitsandbytes4": "bitsandbytes",
}
"""Engines' names of quantizations → rows of precisions.csv; others are rows themselves."""
MENDS = {"bf16": "use dtype fp16, and watch a model trained in bf16 for overflow", "fp16": "use dtype fp32"}


def precision_faults(
    dtype: str, quantization: str, accelerator: Accelerator | None, kv_dtype: str | None = None
) -> list[str]:
    """`kv_dtype`: of the cache, None for the same. A CPU (None) runs what its engine has."""
    if accelerator is None:
        return []
    wanted = [dtype]
    if quantization != "none":
        wanted.append(SCHEMES.get(quantization, quantization))
    if kv_dtype is not None and kv_dtype != dtype:
        wanted.append(f"kv-{kv_dtype}")
    return [fault for scheme in wanted if (fault := _fault(scheme, accelerator)) is not None]


def computes_in(dtype: str, quantization: str, accelerator: Accelerator) -> str:
    """The format of the arithmetic: a quantization that is only stored is computed in `dtype`."""
    scheme = SCHEMES.get(quantization, quantization)
    if quantization == "none" or support(scheme, accelerator) != "native":
        return dtype
    return "fp4" if scheme.endswith("fp4") else scheme


def _fault(scheme: str, accelerator: Accelerator) -> str | None:
    name, generation = accelerator.name, accelerator.generation
    if scheme not in precisions():
        return f"nothing is known of {scheme} on {name}; known are {', '.join(precisions())}"
    match support(scheme, accelerator):
        case "no":
            able = [each for each, how in precisions()[scheme].items() if how in ("native", "weights")]
            mend = MENDS.get(scheme, f"use one of {', '.join(able)}" if able else "use another")
            verb = "compute in" if scheme in ("fp32", "fp16", "bf16") else "run"
            return f"{name} ({generation}) cannot {verb} {scheme}; {mend}"
        case "unknown":
            return f"nothing is published on {scheme} on {name} ({generation}); measure it before relying on it"
    return None
