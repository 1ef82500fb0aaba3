"""Plans for tests, beside those of the model files: with accelerators, alternatives, hostile texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heavylift.plan.memory import GIB
from heavylift.plan.parts import Alternative, LedgerRow, Memory, Performance, Price, Range
from heavylift.plan.plan import Plan

PERFORMANCE = Performance(
    load="4 requests per second of 500 tokens in, 200 out",
    load_how="given",
    first_token_ms=Range(40.0, 55.5, 80.0),
    per_token_ms=Range(18.0, 21.0, 27.5),
    request_ms=Range(3600.0, 4200.0, 5500.0),
    tokens_per_second=Range(800.0, 800.0, 800.0),
    most_tokens_per_second=Range(1500.0, 2100.0, 12600.0),
    batch=17.0,
    probability=0.97,
    usd_per_million_tokens=2.462,
    usd_per_million_tokens_most=0.938,
    calibration="uncalibrated: assumed for vllm on any accelerator",
    calibrated=False,
)


def alternative(type_: str, usd: float, first: float, token: float, **fields: Any) -> Alternative:
    """An alternative of vLLM in bf16."""
    values: dict[str, Any] = {
        "instances": 1, "engine": "vllm", "dtype": "bf16", "quantization": "none", "tensor_parallel_degree": 4,
        "pipeline_parallel_degree": 1, "copies": 1, "usd_per_million_tokens": 1.5, "load_seconds": 90.0,
        "probability": 0.95, "asks": (),
    }  # fmt: skip
    return Alternative(
        instance_type=type_, usd_per_hour=usd, first_token_ms_p90=first, per_token_ms_p90=token, **{**values, **fields}
    )


def on_accelerators(plan: Plan) -> Plan:
    """The same plan on four A10G, with a full ledger, times and alternatives."""
    rows = (
        LedgerRow("accelerator", "weights", 11 * GIB, "11 GiB / rank"),
        LedgerRow("accelerator", "cache", 6 * GIB, "16384 tokens"),
        LedgerRow("accelerator", "activations", GIB, "one layer"),
        LedgerRow("host", "processes", 9 * GIB, "3 · 3 GiB"),
    )
    instance = replace(
        plan.instance,
        type="ml.g5.12xlarge",
        accelerator="A10G",
        accelerators=4,
        accelerator_memory_gib=22.49,
        price=Price(7.09, "us-east-1", "published", "2026-11-20", "https://example.com/prices"),
    )
    ways = (
        alternative("ml.g5.12xlarge", 7.09, 80.0, 27.5, engine=plan.engine, dtype=plan.dtype,
                    tensor_parallel_degree=plan.tensor_parallel_degree),
        alternative("ml.g6e.12xlarge", 13.12, 41.0, 19.0),
        alternative("ml.p5.48xlarge", 63.296, 12.0, 7.5, copies=2, asks=("engine: vllm", "quantization: fp8")),
    )  # fmt: skip
    memory = Memory(rows, 192 * GIB, 20 * GIB)
    return replace(plan, instance=instance, memory=memory, performance=PERFORMANCE, alternatives=ways)
