"""The service level objectives that a benchmark is judged by: one metric, one limit each.

Not the judging (verdict.py), nor the measuring (measurement.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.benchmark import shape
from heavylift.benchmark.shape import Field, FormatError

CONFIDENCE = 0.95
TOLERANCE = 0.1  # what must be ruled out where none may be bad: no number of requests shows that none ever is
PERCENTILE = {"percentile": Field(float, least=0, most=100), "max_ms": Field(float, least=0)}
OPTIONAL = {"confidence": Field(float, least=0.5, most=0.9999)}
TOLERATED = {"tolerance": Field(float, least=0.0001, most=0.5)}
INVARIANCES = ("batch_invariance", "load_invariance")
MAY_BE_STRICT = ("error_rate", "quality", "attainment", *INVARIANCES)
DUE = "over all measured requests; a failed request counts as infinitely slow"


@dataclass(frozen=True)
class Metric:
    """How a metric is written and measured: the key of its limit, which side it bounds, the unit, the exact formula."""

    limit_key: str
    bound: str
    unit: str
    formula: str
    fields: Mapping[str, Field]


def _latency(formula: str) -> Metric:
    return Metric("max_ms", "max", "ms", f"percentile (linear interpolation) of {formula}", PERCENTILE)


def _most(unit: str, formula: str, most: float | None = None) -> Metric:
    return Metric("max", "max", unit, formula, {"max": Field(float, least=0, most=most)})


def _least(unit: str, formula: str, most: float | None = None) -> Metric:
    return Metric("min", "min", unit, formula, {"min": Field(float, least=0, most=most)})


METRICS: Mapping[str, Metric] = {
    "e2e_latency": _latency(f"end - intended send {DUE}"),
    "error_rate": _most("share", "failed and timed-out measured requests / all measured requests", 1),
    "quality": _least(
        "share",
        "rows whose output equals the expected answer exactly / all rows of all measured requests; "
        "the rows of a failed request count as wrong",
        1,
    ),
    "tokens_per_second": _least(
        "tokens/s",
        "generated tokens, as the replies count them, of the answered measured requests "
        "/ (last end - first intended send)",
    ),
    "service_latency": _latency(f"end - actual send {DUE}"),
    "ttft": _latency(f"first content token - intended send {DUE}"),
    "tpot": _latency(f"(last token - first token) / (generated tokens - 1) {DUE}"),
    "itl": _latency("the gaps between content tokens, pooled over all answered measured requests"),
    "requests_per_second": _least("requests/s", "answered measured requests / (last end - first intended send)"),
    "goodput": _least(
        "requests/s",
        "measured requests that were answered, right, not degenerate and within every latency target "
        "/ (last end - first intended send)",
    ),
    "attainment": _least("share", "good requests, as for goodput / all measured requests: errors are not good", 1),
    "batch_invariance": _least(
        "share", "prompts whose answer is the same alone and in their batch, both unloaded / compared", 1
    ),
    "load_invariance": _least(
        "share", "prompts whose answer is the same in their batch unloaded and under load / compared", 1
    ),
    "cost_per_1k_good_requests_usd": _most("USD", "1000 x USD a second of all instances / goodput"),
    "cost_per_1m_tokens_usd": _most("USD", "1,000,000 x USD a second of all instances / tokens per second"),
}


@dataclass(frozen=True)
class Slo:
    """One target: the metric's value must be at most, or at least (its bound), `limit`, in the metric's unit.

    `confidence`: it passes only where a sample this good would come from an endpoint exactly at the limit with at most
    1 - confidence. Where the limit lets nothing be bad, one bad request fails it, and it passes where as good a sample
    would come with at most that from an endpoint with a share of `tolerance`.
    """

    metric: str
    limit: float
    percentile: float | None = None
    confidence: float = CONFIDENCE
    tolerance: float = TOLERANCE

    @property
    def definition(self) -> Metric:
        return METRICS[self.metric]

    @property
    def label(self) -> str:
        """`e2e_latency p90`, `error_rate`."""
        return self.metric if self.percentile is None else f"{self.metric} p{self.percentile:g}"

    @property
    def strict(self) -> bool:
        """The limit lets no request be bad."""
        return self._share == 0

    @property
    def bad_share(self) -> float | None:
        """The share of requests (of rows, of prompts) that may be bad at the limit, or that is tolerated where none
        may; None for what is no share, or a limit that everything meets."""
        share = self._share
        if share is None or share >= 1:
            return None
        return self.tolerance if self.strict else share

    @property
    def _share(self) -> float | None:
        if self.percentile is not None:
            return 1 - self.percentile / 100
        if self.metric == "error_rate":
            return self.limit
        return 1 - self.limit if self.metric in ("quality", "attainment", *INVARIANCES) else None

    @property
    def risk(self) -> float:
        return 1 - self.confidence

    def met_by(self, value: float) -> bool:
        return value <= self.limit if self.definition.bound == "max" else value >= self.limit

    @classmethod
    def from_dict(cls, document: Any, where: str = "slo") -> Slo:
        """Raises FormatError with every fault of this one target."""
        if not isinstance(document, dict) or document.get("metric") not in METRICS:
            named = document.get("metric") if isinstance(document, dict) else document
            raise FormatError([f"{where}.metric is {named!r}; allowed: {', '.join(METRICS)}"])
        metric = METRICS[document["metric"]]
        optional = OPTIONAL | (TOLERATED if document["metric"] in MAY_BE_STRICT else {})
        if found := shape.faults(document, {"metric": Field(str), **metric.fields}, where, optional):
            raise FormatError(found)
        percentile = document.get("percentile")
        return cls(
            document["metric"],
            float(document[metric.limit_key]),
            percentile if percentile is None else float(percentile),
            float(document.get("confidence", CONFIDENCE)),
            float(document.get("tolerance", TOLERANCE)),
        )

    def to_dict(self) -> dict[str, Any]:
        percentile = {} if self.percentile is None else {"percentile": self.percentile}
        confidence = {} if self.confidence == CONFIDENCE else {"confidence": self.confidence}
        tolerance = {} if self.tolerance == TOLERANCE else {"tolerance": self.tolerance}
        return {"metric": self.metric, **percentile, self.definition.limit_key: self.limit, **confidence, **tolerance}
