"""What a simulation gives: each request's times, and their percentiles. Not the simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from heavylift.benchmark.percentile import percentile

PERCENTS = (50, 90, 99)


@dataclass
class Request:
    """One request of the trace and its copy's answer; seconds since the trace's beginning."""

    arrival_s: float
    input_tokens: int
    output_tokens: int
    start_s: float = math.nan
    first_s: float = math.nan
    end_s: float = math.nan

    def started(self, moment: float) -> None:
        """Taken from the queue; only the first time counts."""
        self.start_s = moment if math.isnan(self.start_s) else self.start_s

    def first_token(self, moment: float) -> None:
        """Only the first time counts: a preempted request has shown its first token already."""
        self.first_s = moment if math.isnan(self.first_s) else self.first_s

    def ended(self, moment: float) -> None:
        self.end_s = moment

    @property
    def ttft_s(self) -> float:
        return self.first_s - self.arrival_s

    @property
    def latency_s(self) -> float:
        return self.end_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None for a request of one token."""
        return (self.end_s - self.first_s) / (self.output_tokens - 1) if self.output_tokens > 1 else None


@dataclass(frozen=True)
class Outcome:
    """Of all copies together. Percentiles by percent, in seconds; `utilisation` is the share of the time in which a
    copy ran iterations, `cache` the fullest that a copy's cache was, both 0 to 1; `rows` run at once, on average over
    the iterations; `read_again` counts the tokens of preempted sequences that were read once more."""

    ttft_s: dict[int, float]
    tpot_s: dict[int, float]
    latency_s: dict[int, float]
    seconds: float
    requests_per_second: float
    tokens_per_second: float
    utilisation: float
    rows: float
    cache: float
    preemptions: int
    read_again: int
    requests: tuple[Request, ...] = field(repr=False)

    @property
    def mean_tpot_s(self) -> float:
        """Over tokens, not over requests: as APEX's result files print it."""
        told = [(each.end_s - each.first_s, each.output_tokens - 1) for each in self.requests]
        tokens = sum(count for _, count in told)
        return math.fsum(seconds for seconds, _ in told) / tokens if tokens else math.nan

    @property
    def mean_ttft_s(self) -> float:
        return math.fsum(each.ttft_s for each in self.requests) / len(self.requests)

    def kept(self, limits_s: dict[str, float]) -> float:
        """The share of requests that keep every limit: `ttft`, `tpot` and `latency`, in seconds."""
        count = sum(
            each.ttft_s <= limits_s.get("ttft", math.inf)
            and (each.tpot_s or 0.0) <= limits_s.get("tpot", math.inf)
            and each.latency_s <= limits_s.get("latency", math.inf)
            for each in self.requests
        )
        return count / len(self.requests)


def percentiles(values: Sequence[float]) -> dict[int, float]:
    """By percent; NaN where there is nothing to rank."""
    return {percent: percentile(values, percent) if values else math.nan for percent in PERCENTS}
