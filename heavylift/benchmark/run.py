"""Runs a benchmark against an endpoint: the load, and the header that says how it went.

Not the judgement of what it records (verdict.py).
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from heavylift.benchmark.client import Client
from heavylift.benchmark.loop import Loop
from heavylift.benchmark.overhead import Overhead
from heavylift.benchmark.samples import Recording, Run, Sample
from heavylift.benchmark.schedule import Schedule
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import settled
from heavylift.benchmark.workload import Workload


def measure(
    benchmark: Benchmark,
    client: Client,
    *,
    run: str,
    endpoint: str,
    endpoint_config: str | None = None,
    gate_digest: str | None = None,
    time_limit: float | None = None,
    observe: Callable[[], str | None] = lambda: None,
    metrics: Callable[[datetime, datetime], Overhead | None] = lambda begin, end: None,
    heard: Callable[[Sample], None] = lambda sample: None,
    taken_back: Callable[[], str | None] = lambda: None,
    begin: float | None = None,
) -> Recording:
    """Run a benchmark against an endpoint.

    `time_limit` (seconds) shortens the benchmark's max_seconds; `observe` is asked after the last request which
    EndpointConfig the endpoint has, `metrics` what CloudWatch knows of the measured time, and `taken_back`, all the
    while, whether nobody waits for this run any more (the reason, or None). `begin` is when the arrivals begin, in
    seconds since the epoch: who is late, lags. Raises FormatError for a workload that does not exist, TakenBack.
    """
    workload = Workload.load(benchmark.workload, benchmark.seed)
    seconds = benchmark.max_seconds if time_limit is None else min(time_limit, benchmark.max_seconds)

    def decide(samples: Sequence[Sample]) -> bool:
        return settled(benchmark, schedule.plan, samples)

    schedule = Schedule(benchmark, workload, seconds=seconds, decide=decide)
    start = None
    if begin is not None:
        time.sleep(max(0.0, begin - time.time()))
        start = time.monotonic() - (time.time() - begin)
    started_at = datetime.now(UTC)
    wall, busy = time.monotonic(), time.process_time()
    samples = Loop(benchmark, schedule, client, heard=heard, taken_back=taken_back, start=start).drive()
    share = (time.process_time() - busy) / max(1e-9, time.monotonic() - wall)
    span = measured_span(started_at, samples)
    about = Run(
        run=run,
        endpoint=endpoint,
        endpoint_config=endpoint_config,
        observed_endpoint_config=observe(),
        gate_digest=gate_digest,
        benchmark=benchmark,
        workload_digest=workload.digest,
        started_at=started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        time_limit_s=seconds,
        generator=generator(),
        plan=schedule.plan,
        stationary=schedule.stationary,
        stopped=schedule.stopped,
        cpu_share=round(share, 4),
        sagemaker=None if span is None else metrics(*span),
    )
    return Recording(about, _cut(samples, schedule.cut))


def measured_span(started_at: datetime, samples: Sequence[Sample]) -> tuple[datetime, datetime] | None:
    """From the first measured intended send to the last measured end, by the calendar; None where nothing was."""
    measured = [sample for sample in samples if sample.phase == "measure"]
    if not measured:
        return None
    ends = min(sample.intended_s for sample in measured), max(sample.end_s for sample in measured)
    begun, ended = (started_at + timedelta(seconds=moment) for moment in ends)
    return begun, ended


def _cut(samples: Sequence[Sample], first: int | None) -> tuple[Sample, ...]:
    """What was sent after the requests that settled the verdict is drain: it was not looked at."""
    if first is None:
        return tuple(samples)
    return tuple(
        replace(sample, phase="drain") if sample.phase == "measure" and sample.index >= first else sample
        for sample in samples
    )


def run_name(gate_digest: str | None, now: datetime | None = None) -> str:
    """`20261120T235959Z-1a2b3c4d`: sorts by time, and says which gate it was; `adhoc` where there is no gate."""
    at = datetime.now(UTC) if now is None else now
    return f"{at:%Y%m%dT%H%M%SZ}-{'adhoc' if gate_digest is None else gate_digest[:8]}"


def generator() -> str:
    """Where the load comes from, for the report."""
    memory = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    where = f"Lambda with {memory} MB" if memory else f"{os.cpu_count()} CPUs"
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {where}"
