"""What the side-by-side measurements of generators share: our side of a closed load of streams, and a side's row.

Not run by itself (generator_chat.py, generator_peer.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from heavylift.benchmark.client import Client
from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.run import measure
from heavylift.benchmark.spec import Benchmark

Row = dict[str, float]


def ours(client: Client, *, clients: int, requests: int, warmup: int, **asked: Any) -> Row:
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
    measured = recording.measured
    assert all(sample.ok for sample in measured)
    ttft = [(sample.first_token_s - sample.sent_s) * 1000 for sample in measured if sample.first_token_s is not None]
    tpot = [sample.tpot_ms for sample in measured if sample.tpot_ms is not None]
    return row(ttft, [sample.service_ms for sample in measured], tpot, busy * 1000 / len(recording.samples))


def row(ttft: Sequence[float], e2e: Sequence[float], tpot: Sequence[float], cpu: float) -> Row:
    """Of one side: all in ms, `cpu` of processor time for each stream."""
    found = {
        "streams": len(e2e), "ttft_ms_p50": percentile(ttft, 50), "ttft_ms_p90": percentile(ttft, 90),
        "e2e_ms_p50": percentile(e2e, 50), "e2e_ms_p90": percentile(e2e, 90), "tpot_ms_p50": percentile(tpot, 50),
        "cpu_ms_per_stream": cpu,
    }  # fmt: skip
    return {name: round(value, 3) for name, value in found.items()}
