"""report.json: everything a reader wants to know of a run, as plain JSON values, computed from the samples.

Not its pages and tables (heavylift/report).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from statistics import fmean
from typing import Any

from heavylift.benchmark.attribution import attributed
from heavylift.benchmark.formulas import formula
from heavylift.benchmark.histogram import Histogram
from heavylift.benchmark.measurement import Measurement
from heavylift.benchmark.percentile import METHOD, percentile
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.slo import METRICS
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import Judgement, Verdict, percent

FORMAT = "heavylift.report/1"
NORMAL_QUALITY = 0.95  # where the benchmark has no target for quality


def build_report(recording: Recording, verdict: Verdict, *, samples: str) -> dict[str, Any]:
    """The report of a judged recording; `samples` is where the samples are (a URI or a path)."""
    run, benchmark, measurement = recording.run, recording.run.benchmark, Measurement(recording)
    latency, phases = _latency(measurement.latencies_ms), Counter(sample.phase for sample in recording.samples)
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
        "judgements": [_judgement(judgement, benchmark) for judgement in verdict.judgements],
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
        "service_ms": _latency(measurement.of_answered("service_latency")),
        "ttft_ms": _streamed(measurement.of_answered("ttft")),
        "tpot_ms": _streamed(measurement.of_answered("tpot")),
        "itl_ms": _streamed(measurement.gaps_ms),
        "goodput": _goodput(measurement),
        "cost": _cost(recording, measurement),
        "load": {"lag_ms": _lag(measurement.lags_ms), "cpu_share": run.cpu_share},
        "attribution_ms": _attribution(measurement),
        "attribution": _parts(recording, measurement),
        "quality": {
            "overall": _rounded(measurement.quality),
            "by_task": {task: _rounded(share) for task, share in measurement.quality_by_task.items()},
            "batch_invariance": _pairs(measurement.batch_pairs),
            "load_invariance": _pairs(measurement.load_pairs),
            "degenerate": measurement.degenerate,
        },
        "errors": {"rate": _rounded(measurement.error_rate), "by_kind": measurement.errors_by_kind},
        "requests": {
            "planned": benchmark.plan.requests,
            "measured": len(measurement.samples),
            "answered": len(measurement.answered),
            "warmup": phases["warmup"],
            "drain": phases["drain"],
            "probes": phases["quiet"] + phases["alone"],
        },
        "stationary": None if run.stationary is None else asdict(run.stationary),
        "stopped": run.stopped,
        "plan": None if run.plan is None else run.plan.to_dict(),
        "histograms": {
            "e2e": _histogram(measurement.latencies_ms),
            "service": _histogram(measurement.of_answered("service_latency")),
            "ttft": _histogram(measurement.of_answered("ttft")),
            "itl": _histogram(measurement.gaps_ms),
        },
        "formulas": {name: formula(name, benchmark) for name in METRICS},
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


def _streamed(values: list[float]) -> dict[str, Any] | None:
    """The same of what only streamed replies have."""
    return _latency(values) if values else None


def _goodput(measurement: Measurement) -> dict[str, Any]:
    return {
        "good": sum(measurement.good),
        "due": len(measurement.samples),
        "attainment": _rounded(measurement.attainment),
        "requests_per_second": _rounded(measurement.goodput),
        "tokens_per_second": _rounded(measurement.good_tokens_per_second),
    }


def _cost(recording: Recording, measurement: Measurement) -> dict[str, Any] | None:
    """In USD, at the subject's price; `run_usd` is what the instances cost while this benchmark ran."""
    price = recording.run.benchmark.usd_per_second
    if price is None:
        return None
    seconds = max((sample.end_s for sample in recording.samples), default=0.0)
    return {
        "usd_per_hour": _rounded(price * 3600),
        "run_usd": _rounded(price * seconds),
        "per_1k_good_requests_usd": _finite(measurement.cost_per_1k_good_requests_usd),
        "per_1m_tokens_usd": _finite(measurement.cost_per_1m_tokens_usd),
    }


def _lag(values: list[float]) -> dict[str, Any]:
    """Actual minus intended send, in milliseconds."""
    points = {f"p{p}": _rounded(percentile(values, p)) if values else None for p in (50, 99)}
    return points | {"max": _rounded(max(values, default=None))}


def _attribution(measurement: Measurement) -> dict[str, Any]:
    """Means over the answered requests: waiting in the client, then until the first byte, from it to the first content
    token, and from that to the end. `attribution` tells apart what is in `first_byte`."""
    parts: dict[str, list[float]] = {"client": [], "first_byte": [], "first_token": [], "generation": []}
    for sample in measurement.answered:
        parts["client"].append(sample.lag_ms)
        if sample.first_byte_s is not None and sample.first_token_s is not None:
            parts["first_byte"].append((sample.first_byte_s - sample.sent_s) * 1000)
            parts["first_token"].append((sample.first_token_s - sample.first_byte_s) * 1000)
            parts["generation"].append((sample.end_s - sample.first_token_s) * 1000)
    return {name: _rounded(fmean(values)) if values else None for name, values in parts.items()}


def _parts(recording: Recording, measurement: Measurement) -> dict[str, Any] | None:
    """The mean latency in its parts; None for samples whose client did not time them."""
    run = recording.run
    found = attributed(measurement.answered, stream=run.benchmark.stream, overhead=run.sagemaker)
    if found is None:
        return None
    parts = [asdict(part) | {"ms": _rounded(part.ms)} for part in found.parts]
    told = None if run.sagemaker is None else asdict(run.sagemaker)
    about = {"requests": found.requests, "mean_ms": _rounded(found.mean_ms), "note": found.note}
    return about | {"parts": parts, "sagemaker": told}


def _pairs(same: list[bool]) -> dict[str, int]:
    return {"compared": len(same), "same": sum(same)}


def _histogram(values: list[float]) -> dict[str, Any] | None:
    return Histogram.of_ms(values).to_dict() if values else None


def _judgement(judgement: Judgement, benchmark: Benchmark) -> dict[str, Any]:
    slo, value, evidence = judgement.slo, judgement.value, judgement.evidence
    ends = (None, None) if evidence is None or evidence.interval is None else evidence.interval
    return {
        "metric": slo.metric,
        "percentile": slo.percentile,
        "limit": slo.limit,
        "bound": slo.definition.bound,
        "value": _finite(value),
        "unit": slo.definition.unit,
        "passed": judgement.passed,
        "outcome": judgement.outcome,
        "confidence": None if evidence is None else slo.confidence,
        "requests": None if evidence is None else evidence.requests,
        "violations": None if evidence is None else evidence.violations,
        "effective_requests": None if evidence is None else evidence.effective,
        "allowed": None if evidence is None else evidence.allowed,
        "needed": None if evidence is None else evidence.needed,
        "batches": None if evidence is None else evidence.batches,
        "interval": None if evidence is None or evidence.interval is None else [_rounded(end) for end in ends],
        "sentence": judgement.sentence,
        "formula": formula(slo.metric, benchmark),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else _rounded(value)


def _rounded(value: float | None) -> float | None:
    """To a millionth: finer than the clock's microseconds resolve."""
    return None if value is None else round(value, 6)
