"""One candidate measured: the real runtime on this machine, a closed loop of real requests, and its end.

Not the choice among candidates (halving.py). Whatever happens, the server that was started is stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.samples import Recording
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.calibrate.served import serving
from heavylift.errors import HeavyliftError, InputError
from heavylift.plan.lock import Lock
from heavylift.plan.plan import Plan
from heavylift.serving.render import render_properties
from heavylift.spec import ModelSpec
from heavylift.tune.candidates import Candidate
from heavylift.tune.halving import Trial


@dataclass(frozen=True)
class Tried:
    """What every trial of one model file shares. The requests stay the file's own, whatever the server may batch."""

    spec: ModelSpec
    lock: Lock
    weights: Path
    benchmark: Benchmark

    def measure(self, candidate: Candidate, requests: int) -> Trial:
        """One trial; a candidate that does not fit, or whose server does not start, has a fault."""
        try:
            recording = self.record(candidate, requests)
        except (InputError, HeavyliftError) as error:
            return Trial(candidate, requests, 0.0, None, None, str(error).splitlines()[0])
        report = build_report(recording, judge(recording), samples="")
        goodput = report["goodput"]["requests_per_second"]
        return Trial(
            candidate,
            requests,
            0.0 if goodput is None else goodput,
            report["tokens_per_second"],
            report["latency_ms"]["p90"],
        )

    def record(self, candidate: Candidate, requests: int) -> Recording:
        """Serve it and measure so many requests. No early stop: rivals must answer the same ones."""
        plan = Plan.fit(candidate.of(self.spec), self.lock)
        properties = {**dict(plan.properties), "option.model_id": str(self.weights)}
        served = replace(
            self.benchmark.subject,
            workers=candidate.workers,
            tensor_parallel_degree=candidate.tensor_parallel_degree,
        )
        benchmark = replace(self.benchmark, subject=served, requests=requests, slo=())
        with serving(render_properties(properties.items())) as server, HttpClient(server.url) as client:
            recording = measure(benchmark, client, run=label(candidate), endpoint=server.url)
        targets = replace(recording.run.benchmark, slo=self.benchmark.slo)
        return replace(recording, run=replace(recording.run, benchmark=targets))


def label(candidate: Candidate) -> str:
    """`w1-b4-d10-q100-tp2`."""
    return (
        f"w{candidate.workers}-b{candidate.batch_size}-d{candidate.max_batch_delay}"
        f"-q{candidate.job_queue_size}-tp{candidate.tensor_parallel_degree}"
    )
