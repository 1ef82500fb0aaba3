"""The service level objectives that a benchmark is judged by: one metric, one limit each.

Not the judging (verdict.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.benchmark import shape
from heavylift.benchmark.shape import Field, FormatError


@dataclass(frozen=True)
class Metric:
    """How a metric is written and measured: the key of its limit, which side it bounds, the unit, the exact formula."""

    limit_key: str
    bound: str
    unit: str
    formula: str
    fields: Mapping[str, Field]


METRICS: Mapping[str, Metric] = {
    "e2e_latency": Metric(
        limit_key="max_ms",
        bound="max",
        unit="ms",
        formula="percentile (linear interpolation) of end - intended send over all measured requests; "
        "a failed request counts as infinitely slow",
        fields={"percentile": Field(float, least=0, most=100), "max_ms": Field(float, least=0)},
    ),
    "error_rate": Metric(
        limit_key="max",
        bound="max",
        unit="share",
        formula="failed and timed-out measured requests / all measured requests",
        fields={"max": Field(float, least=0, most=1)},
    ),
    "quality": Metric(
        limit_key="min",
        bound="min",
        unit="share",
        formula="rows whose output equals the expected answer exactly / all rows of all measured requests; "
        "the rows of a failed request count as wrong",
        fields={"min": Field(float, least=0, most=1)},
    ),
    "tokens_per_second": Metric(
        limit_key="min",
        bound="min",
        unit="tokens/s",
        formula="generated tokens, as the replies count them, of the answered measured requests "
        "/ (last end - first intended send)",
        fields={"min": Field(float, least=0)},
    ),
}


@dataclass(frozen=True)
class Slo:
    """One target: the metric's value must be at most, or at least (its bound), `limit`, in the metric's unit."""

    metric: str
    limit: float
    percentile: float | None = None

    @property
    def definition(self) -> Metric:
        return METRICS[self.metric]

    @property
    def label(self) -> str:
        """`e2e_latency p90`, `error_rate`."""
        return self.metric if self.percentile is None else f"{self.metric} p{self.percentile:g}"

    def met_by(self, value: float) -> bool:
        return value <= self.limit if self.definition.bound == "max" else value >= self.limit

    @classmethod
    def from_dict(cls, document: Any, where: str = "slo") -> Slo:
        """Raises FormatError with every fault of this one target."""
        if not isinstance(document, dict) or document.get("metric") not in METRICS:
            named = document.get("metric") if isinstance(document, dict) else document
            raise FormatError([f"{where}.metric is {named!r}; allowed: {', '.join(METRICS)}"])
        metric = METRICS[document["metric"]]
        if found := shape.faults(document, {"metric": Field(str), **metric.fields}, where):
            raise FormatError(found)
        percentile = document.get("percentile")
        return cls(
            document["metric"],
            float(document[metric.limit_key]),
            percentile if percentile is None else float(percentile),
        )

    def to_dict(self) -> dict[str, Any]:
        percentile = {} if self.percentile is None else {"percentile": self.percentile}
        return {"metric": self.metric, **percentile, self.definition.limit_key: self.limit}
