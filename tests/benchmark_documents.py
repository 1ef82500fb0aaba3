"""A benchmark document and recordings to test with. Not fixtures: plain functions."""

from __future__ import annotations

from typing import Any

from heavylift.benchmark.samples import Recording, Row, Run, Sample
from heavylift.benchmark.spec import Benchmark

SLO = [
    {"metric": "e2e_latency", "percentile": 90, "max_ms": 2000},
    {"metric": "error_rate", "max": 0.0},
    {"metric": "quality", "min": 0.9},
]


def benchmark_document(**changes: Any) -> dict[str, Any]:
    """`heavylift.benchmark/1`, small: 2 requests to warm up, batches of 4.

    30 are measured: 29 certify a p90, or 9 of 10 rows right.
    """
    return {
        "format": "heavylift.benchmark/1",
        "subject": {
            "model": "tiny-t5",
            "engine": "native",
            "quantization": "none",
            "dtype": "fp32",
            "batch": 4,
            "tensor_parallel_degree": 2,
            "workers": 1,
            "instance_type": "ml.c6i.xlarge",
            "instance_count": 1,
        },
        "workload": "four-tasks",
        "load": {"mode": "closed", "concurrency": 1},
        "warmup_requests": 2,
        "requests": 30,
        "max_seconds": 300,
        "seed": 7,
        "slo": SLO,
        "on_fail": "rollback",
    } | changes


def recorded(latencies_ms: list[float | None], *, slo: list[dict[str, Any]] | None = None, **run: Any) -> Recording:
    """One measured request after another with these latencies, one row each; None is a request that failed."""
    document = benchmark_document(requests=max(1, len(latencies_ms)), slo=SLO if slo is None else slo)
    samples, now = [], 0.0
    for index, latency in enumerate(latencies_ms):
        end = round(now + (0.01 if latency is None else latency / 1000), 6)
        samples.append(sample(index, now, end, failed=latency is None))
        now = end
    about: dict[str, Any] = {
        "run": "20261120T235959Z-1a2b3c4d",
        "endpoint": "tiny-t5",
        "endpoint_config": "config-1",
        "observed_endpoint_config": "config-1",
        "gate_digest": "1a2b3c4d5e6f",
        "workload_digest": "0" * 64,
        "started_at": "2026-11-20T23:59:59Z",
        "time_limit_s": 300,
        "generator": "a test",
    }
    return Recording(Run(benchmark=Benchmark.from_dict(document), **(about | run)), tuple(samples))


def sample(index: int, start: float, end: float, *, failed: bool = False, **row: Any) -> Sample:
    """A measured request of one row."""
    if failed:
        error = {"kind": "model", "message": "out of memory"}
        rows = (Row("words", None, None, None, False, None),)
        return Sample(index, "measure", start, start, end, "error", 424, error, rows)
    good = Row(**{"task": "words", "prompt_tokens": 6, "generated_tokens": 5, "finish_reason": "eos_token",
                  "correct": True, "output": "one"} | row)  # fmt: skip
    return Sample(index, "measure", start, start, end, "ok", 200, None, (good,))
