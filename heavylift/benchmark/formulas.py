"""Each metric's formula, as a run's clients could measure it. Not the metrics themselves: slo.py."""

from __future__ import annotations

from collections.abc import Mapping

from heavylift.benchmark.slo import DUE, METRICS
from heavylift.benchmark.spec import Benchmark

LOOKED_FOR = "its input's upload to S3 counts; its reply is looked for 50 ms to 5 % of its time apart"
ASYNCHRONOUS: Mapping[str, str] = {
    "e2e_latency": f"percentile (linear interpolation) of reply read from S3 - intended send ({LOOKED_FOR}) {DUE}",
    "service_latency": f"percentile (linear interpolation) of reply read from S3 - actual send ({LOOKED_FOR}) {DUE}",
}


def formula(metric: str, benchmark: Benchmark) -> str:
    """How the metric is computed of replies that come at once, or through S3."""
    told = METRICS[metric].formula
    return ASYNCHRONOUS.get(metric, told) if benchmark.asynchronous else told
