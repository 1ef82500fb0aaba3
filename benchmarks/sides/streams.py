"""What the side-by-side measurements of generators share: our side of a closed load of streams, and what a side found.

Not run by itself (generator_chat.py, generator_peer.py), nor whether two sides agree (agreement.py).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heavylift.benchmark.client import Client
from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.run import measure
from heavylift.benchmark.spec import Benchmark

Row = dict[str, float]


@dataclass(frozen=True)
class Streams:
    """What one side measured in one run: a value for each stream, in order of sending. `begin_s` are the actual sends
    by one clock, `window_s` when all clients were at work; `cpu_ms` is processor time for each stream."""

    begin_s: Sequence[float]
    ttft_ms: Sequence[float]
    e2e_ms: Sequence[float]
    tpot_ms: Sequence[float]
    cpu_ms: float
    window_s: tuple[float, float]
    clients: int

    @property
    def times(self) -> Mapping[str, Sequence[float]]:
        """By what they are called in a row."""
        return {"ttft_ms": self.ttft_ms, "e2e_ms": self.e2e_ms, "tpot_ms": self.tpot_ms}

    def row(self) -> Row:
        found = {
            "streams": float(len(self.e2e_ms)),
            **{f"{name}_p{p}": percentile(values, p) for name, values in self.times.items() for p in (50, 90)},
            "cpu_ms_per_stream": self.cpu_ms,
            **self.offered(),
        }
        return {name: round(value, 3) for name, value in found.items()}

    def offered(self) -> Row:
        """The load while all clients were at work: requests under way on average, requests a second, and what a client
        took between a reply and its next request (Z = N / X - R, the interactive response time law)."""
        start, end = self.window_s
        spans = [(begin, begin + e2e / 1000) for begin, e2e in zip(self.begin_s, self.e2e_ms, strict=True)]
        under_way = sum(max(0.0, min(last, end) - max(first, start)) for first, last in spans) / (end - start)
        rate = sum(start < last <= end for _, last in spans) / (end - start)
        return {
            "under_way": under_way,
            "requests_per_second": rate,
            "think_ms": (self.clients - under_way) / rate * 1000,
        }


def ours(client: Client, *, clients: int, requests: int, warmup: int, **asked: Any) -> Streams:
    """Heavylift's closed load of streams, from the actual send as the others count; `asked` are further keys of the
    benchmark."""
    subject = {
        "model": "scripted", "engine": "scripted", "quantization": "none", "dtype": "fp32", "batch": 1,
        "tensor_parallel_degree": 1, "workers": 1, "instance_type": "ml.c6i.xlarge", "instance_count": 1,
    }  # fmt: skip
    document = {
        "format": "heavylift.benchmark/1", "subject": subject, "workload": "four-tasks", "stream": True, "slo": [],
        "load": {"mode": "closed", "concurrency": clients}, "warmup_requests": warmup, "requests": requests,
        "max_seconds": 300, "seed": 7, "on_fail": "warn",
    }  # fmt: skip
    busy = time.process_time()
    recording = measure(Benchmark.from_dict(document | asked), client, run="streams", endpoint="scripted")
    busy = time.process_time() - busy
    measured = sorted(recording.measured, key=lambda sample: sample.sent_s)
    assert all(sample.ok for sample in measured), [sample.error for sample in measured if not sample.ok][:3]
    return Streams(
        [sample.sent_s for sample in measured],
        [(sample.first_token_s - sample.sent_s) * 1000 for sample in measured if sample.first_token_s is not None],
        [sample.service_ms for sample in measured],
        [sample.tpot_ms for sample in measured if sample.tpot_ms is not None],
        busy * 1000 / len(recording.samples),
        (measured[0].sent_s, measured[-1].sent_s),
        clients,
    )


def medians(rows: Sequence[Row]) -> Row:
    """Of each number over the rounds."""
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}
