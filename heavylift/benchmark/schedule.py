"""Every request of a run, computed before the first is sent: phase, prompts, and the bytes to send.

Not the sending (run.py). In a closed loop the time of a send is not planned: it is when a client becomes free.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from heavylift.benchmark.reply import request_body
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.workload import Example, Workload


@dataclass(frozen=True)
class Request:
    """One request: its place in the order of sending, `warmup` or `measure`, the batch and its body."""

    index: int
    phase: str
    batch: tuple[Example, ...]
    body: bytes


def schedule(benchmark: Benchmark, workload: Workload) -> Sequence[Request]:
    """The warm-up requests, then the measured ones, as one sequence: the load does not pause between the two, and
    the measured prompts continue where those of the warm-up ended."""
    phases = ["warmup"] * benchmark.warmup_requests + ["measure"] * benchmark.requests
    batches = itertools.islice(workload.batches(benchmark.subject.batch, seed=benchmark.seed), len(phases))
    return tuple(
        Request(index, phase, batch, request_body(batch))
        for index, (phase, batch) in enumerate(zip(phases, batches, strict=True))
    )
