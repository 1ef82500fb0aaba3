"""report.json: everything a reader wants to know of a run, as plain JSON values, computed from the samples.

Not its pages and tables (heavylift/report).
"""

from __future__ import annotations

import math
from typing import Any

from heavylift.benchmark.measurement import Measurement
from heavylift.benchmark.percentile import METHOD, percentile
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.verdict import Judgement, Verdict, percent

FORMAT = "heavylift.report/1"
NORMAL_QUALITY = 0.95  # where the benchmark has no target for quality


def build_report(recording: Recording, verdict: Verdict, *, samples: str) -> dict[str, Any]:
    """The report of a judged recording; `samples` is where the samples are (a URI or a path)."""
    run, benchmark, measurement = recording.run, recording.run.benchmark, Measurement(recording)
    latency = _latency(measurement.latencies_ms)
    return {
        "format": FORMAT,
        "run": run.run,
        "name": benchmark.subject.model,
        "endpoint": run.endpoint,
        "endpoint_config": run.endpoint_config,
        "gate_digest": run.gate_digest,
        "started_at": run.started_at,
        "seconds": _rounded(max((sample.end_s for sample in recording.samples), default=0.0)),
        "verdict": verdict.verdict,
        "void": list(verdict.void),
        "judgements": [_judgement(judgement) for judgement in verdict.judgements],
        "table": {
            "model": benchmark.subject.model,
            "engine": benchmark.subject.engine,
            "quantization": benchmark.subject.quantization,
            "batch": benchmark.subject.batch,
            "tensor_parallel_degree": benchmark.subject.tensor_parallel_degree,
            "workers": benchmark.subject.workers,
            "p50_ms": latency["p50"],
            "p90_ms": latency["p90"],
            "p99_ms": latency["p99"],
            "tokens_per_second": _rounded(measurement.tokens_per_second),
            "data_quality": data_quality(recording, measurement.quality),
        },
        "latency_ms": latency,
        "tokens_per_second": _rounded(measurement.tokens_per_second),
        "requests_per_second": _rounded(measurement.requests_per_second),
        "tokens": {
            "prompt": measurement.tokens("prompt_tokens"),
            "generated": measurement.tokens("generated_tokens"),
        },
        "quality": {
            "overall": _rounded(measurement.quality),
            "by_task": {task: _rounded(share) for task, share in measurement.quality_by_task.items()},
        },
        "errors": {"rate": _rounded(measurement.error_rate), "by_kind": measurement.errors_by_kind},
        "requests": {
            "planned": benchmark.requests,
            "measured": len(measurement.samples),
            "answered": len(measurement.answered),
            "warmup": len(recording.samples) - len(measurement.samples),
        },
        "benchmark": benchmark.to_dict(),
        "workload_digest": run.workload_digest,
        "generator": run.generator,
        "samples": samples,
    }


def data_quality(recording: Recording, share: float | None) -> str:
    """`normal (99.5 %)` when the share of exact answers meets the quality target (or 95 %), else `degraded (…)`."""
    if share is None:
        return "not measured"
    targets = [slo.limit for slo in recording.run.benchmark.slo if slo.metric == "quality"]
    word = "normal" if share >= max(targets, default=NORMAL_QUALITY) else "degraded"
    return f"{word} ({percent(share)})"


def _latency(values: list[float]) -> dict[str, Any]:
    """Of the answered measured requests, in milliseconds; None where there are none."""
    points: dict[str, Any] = {f"p{p}": _rounded(percentile(values, p)) if values else None for p in (50, 90, 99)}
    points |= {"min": _rounded(min(values, default=None)), "max": _rounded(max(values, default=None))}
    points["mean"] = _rounded(math.fsum(values) / len(values)) if values else None
    return points | {"count": len(values), "method": f"{METHOD}, over the answered measured requests"}


def _judgement(judgement: Judgement) -> dict[str, Any]:
    slo, value = judgement.slo, judgement.value
    return {
        "metric": slo.metric,
        "percentile": slo.percentile,
        "limit": slo.limit,
        "bound": slo.definition.bound,
        "value": None if value is None or math.isinf(value) else _rounded(value),
        "unit": slo.definition.unit,
        "passed": judgement.passed,
        "sentence": judgement.sentence,
        "formula": slo.definition.formula,
    }


def _rounded(value: float | None) -> float | None:
    """To a millionth: finer than the clock's microseconds resolve."""
    return None if value is None else round(value, 6)
