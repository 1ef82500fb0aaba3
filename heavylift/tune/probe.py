"""One rate tried on an endpoint: Poisson arrivals for long enough that a queue which grows can be seen to grow.

Not the search (capacity.py). Every probe's samples are kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from heavylift.benchmark.client import Client
from heavylift.benchmark.load import OpenLoad
from heavylift.benchmark.looks import auto
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording, Sample
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.tune.capacity import Step

LEAST_SECONDS = 10.0  # a load just above the capacity needs this long to show in the tail
SPARE = 1.3  # Poisson arrivals may take longer than their mean


@dataclass
class Prober:
    """Probes one endpoint; `kept` has the recordings in order. `seconds_left` bounds each probe."""

    benchmark: Benchmark
    client: Client
    endpoint: str
    folder: Path
    seconds_left: Callable[[], float]
    heard: Callable[[Sample], None] = lambda sample: None
    most_seconds: float = 120.0
    kept: list[Recording] = field(default_factory=list)

    def __call__(self, rate: float) -> Step:
        """Offer `rate` requests a second. Each probe has prompts and arrivals of its own."""
        number = len(self.kept) + 1
        at_rate = probing(self.benchmark, rate, seed=self.benchmark.seed + number)
        limit = min(self.most_seconds, self.seconds_left())
        run, started = f"{self.folder.name}/{number:02d}", time.monotonic()
        recording = measure(at_rate, self.client, run=run, endpoint=self.endpoint, time_limit=limit, heard=self.heard)
        place = self.folder / f"{number:02d}"
        place.mkdir(parents=True, exist_ok=True)
        recording.save(place / "samples.jsonl.gz")
        self.kept.append(recording)
        verdict = judge(recording)
        report = build_report(recording, verdict, samples=str(place / "samples.jsonl.gz"))
        latency = {name: report["latency_ms"][name] for name in ("p50", "p90", "p99")}
        seconds = time.monotonic() - started
        return Step(rate, run, verdict.verdict, report["requests_per_second"], latency, verdict.sentences, seconds)


def probing(benchmark: Benchmark, rate: float, *, seed: int) -> Benchmark:
    """The benchmark at an open rate: as many requests as its targets need, or as LEAST_SECONDS bring."""
    requests = _requests(benchmark, rate)
    load = OpenLoad(mode="open", arrivals="poisson", rate=rate)
    return replace(benchmark, load=load, requests=requests, seed=seed, max_seconds=requests / rate * SPARE + 60)


def shortest(benchmark: Benchmark, rate: float) -> float:
    """Seconds in which a probe at this rate can have sent what its targets need, on average; less can only be void."""
    return _requests(benchmark, rate) / rate


def _requests(benchmark: Benchmark, rate: float) -> int:
    return max(auto(benchmark.slo).requests, math.ceil(rate * LEAST_SECONDS))
