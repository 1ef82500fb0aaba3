"""One open load by several generators at once: what each of them sends, and how their parts become one run. Pure.

Not their starting (generators.py). Independent Poisson arrivals of rate/k each add up to Poisson arrivals of the whole
rate (J. F. C. Kingman, "Poisson Processes", the superposition theorem), so nobody has to coordinate them: all begin at
the same moment, send for the same time, and what was warm-up, measured or drain is told afterwards, by the clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from heavylift.benchmark.load import OpenLoad
from heavylift.benchmark.merge import cut_after, looked_at, side_by_side
from heavylift.benchmark.samples import Recording, Sample
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.stationary import WINDOWS, steady

DRAIN_S = 10.0  # the load is kept up so long for the last measured requests
SIGMAS = 4.0  # of a Poisson number of arrivals: fewer than asked for come once in 30,000 runs
MOST = 1_000_000


@dataclass(frozen=True)
class Window:
    """Seconds from the common beginning: warm-up until `measure_s`, measured until `drain_s`, sent until `end_s`."""

    measure_s: float
    drain_s: float
    end_s: float

    @classmethod
    def of(cls, benchmark: Benchmark) -> Window:
        """Long enough for the warm-up's windows twice over, and for all requests that the verdict may need."""
        load, most = benchmark.load, benchmark.plan.most_requests
        assert isinstance(load, OpenLoad)
        steadying = 0 if benchmark.warmup is None else 2 * WINDOWS * benchmark.warmup.window
        warm = max(benchmark.warmup_requests, steadying) / load.rate
        measured = (most + SIGMAS * math.sqrt(most) + SIGMAS) / load.rate
        return cls(warm, warm + measured, warm + measured + DRAIN_S)

    def phase(self, sample: Sample) -> str:
        if sample.intended_s < self.measure_s:
            return "warmup"
        return "measure" if sample.intended_s < self.drain_s else "drain"


def part_of(benchmark: Benchmark, index: int) -> Benchmark:
    """What one generator runs: its share of the rate, its own arrivals and order of prompts, no end but the time."""
    load = benchmark.load
    assert isinstance(load, OpenLoad) and 0 <= index < load.generators
    share = replace(
        load,
        rate=load.rate / load.generators,
        max_in_flight=math.ceil(load.max_in_flight / load.generators),
        generators=1,
    )
    return replace(
        benchmark,
        load=share,
        warmup_requests=0,
        warmup=None,
        requests=MOST,
        max_seconds=min(benchmark.max_seconds, Window.of(benchmark).end_s),
        max_usd=None,
        slo=(),
        probes=0,
        part=index + 1,
    )


def whole_of(parts: Sequence[Recording], benchmark: Benchmark) -> Recording:
    """The parts as one run of `benchmark`, judged at the looks that one generator would have taken.

    Raises FormatError for parts that are not of one run.
    """
    window = Window.of(benchmark)
    merged = side_by_side(parts, benchmark)
    samples = tuple(replace(sample, phase=window.phase(sample)) for sample in merged.samples)
    measured = sum(sample.phase == "measure" for sample in samples)
    run = replace(merged.run, stopped="planned" if measured >= benchmark.plan.most_requests else "time")
    if benchmark.warmup is not None:
        warm = [sample.latency_ms for sample in samples if sample.phase == "warmup"]
        found = steady(warm, benchmark.warmup.window)
        run = replace(run, stationary=found, stopped=run.stopped if found.reached else "unsteady")
    found_run = Recording(run, samples)
    if run.stopped == "unsteady":
        return found_run
    cut, decided = looked_at(found_run)
    if decided or run.stopped == "time":
        return cut
    return cut_after(cut, benchmark.plan.most_requests)
