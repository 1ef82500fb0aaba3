"""How late the load generator is, and what it costs: `python benchmarks/generator.py`.

Not a benchmark of an endpoint. The generator, on one core, sends an open Poisson load of streams to a scripted endpoint
on another core: 64 tokens, the first after 50 ms, then one every 5 ms. Told are the lag (actual minus intended send),
how far the measured TTFT is from the scripted one, and processor time per stream; for SageMaker's event stream through
boto3, and for JSON lines over plain HTTP; the median of the rounds, and the worst. The goal: at 75 streams a second 1 %
are sent 10 ms late at most. On a machine with neighbours, --fifo keeps them out of the result; what share of the
generator's core others had is told. The last line is one JSON object; the last one kept is results/generator.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heavylift.benchmark.client import Client, HttpClient, SageMakerClient
from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.run import measure
from heavylift.benchmark.spec import Benchmark

ROOT = Path(__file__).resolve().parent.parent
TOKENS, FIRST, GAP = 64, 0.05, 0.005
GOAL_RATE, GOAL_LAG_MS = 75, 10.0


def benchmark(rate: float, seconds: float) -> Benchmark:
    subject = {
        "model": "scripted", "engine": "scripted", "quantization": "none", "dtype": "fp32", "batch": 1,
        "tensor_parallel_degree": 1, "workers": 1, "instance_type": "ml.c6i.xlarge", "instance_count": 1,
    }  # fmt: skip
    return Benchmark.from_dict(
        {
            "format": "heavylift.benchmark/1",
            "subject": subject,
            "workload": {"synthetic": {"prompt_words": [100, 400], "new_tokens": [TOKENS, TOKENS]}},
            "load": {"mode": "open", "arrivals": "poisson", "rate": rate, "max_in_flight": 256},
            "warmup_requests": int(3 * rate),
            "requests": int(seconds * rate),
            "max_seconds": seconds + 60,
            "seed": 7,
            "slo": [],
            "stream": True,
            "on_fail": "warn",
        }
    )


def run(client: Client, rate: float, seconds: float, core: int) -> dict[str, float]:
    asked = benchmark(rate, seconds)
    busy, wall, whole = time.process_time(), time.monotonic(), core_seconds(core)
    recording = measure(asked, client, run="generator", endpoint="scripted")
    busy, wall, whole = time.process_time() - busy, time.monotonic() - wall, core_seconds(core) - whole
    measured = recording.measured
    lags = [sample.lag_ms for sample in measured]
    late = [sample.ttft_ms - FIRST * 1000 for sample in measured if sample.ttft_ms is not None]
    assert len(late) == len(measured), [sample.error for sample in measured if not sample.ok][:3]
    return {
        "streams_per_second": rate,
        "streams": len(measured),
        "lag_ms_p50": round(percentile(lags, 50), 3),
        "lag_ms_p99": round(percentile(lags, 99), 3),
        "ttft_error_ms_p50": round(percentile(late, 50), 3),
        "ttft_error_ms_p99": round(percentile(late, 99), 3),
        "cpu_ms_per_stream": round(busy * 1000 / len(recording.samples), 3),
        "core_share": round(busy / wall, 3),
        "others_share": round(max(0.0, whole - busy) / wall, 3),
    }


def core_seconds(core: int) -> float:
    """How long a core has been busy, or was taken away by the machine's host (proc(5), /proc/stat)."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, ticks)
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0


def summed_up(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The rounds' medians, and the worst lag of them."""
    found = {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}
    return {**found, "rounds": len(rows), "worst_lag_ms_p99": max(row["lag_ms_p99"] for row in rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[25, 75, 125])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fifo", action="store_true", help="schedule both processes before all others; as root")
    parser.add_argument("--keep", action="store_true", help="write results/generator.json")
    chosen = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("the generator and the endpoint need a core each")
    if chosen.fifo:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    os.sched_setaffinity(0, {cores[0]})
    endpoint = [sys.executable, str(ROOT / "benchmarks" / "scripted" / "endpoint.py"), "--core", str(cores[1])]
    script = ["--tokens", str(TOKENS), "--first", str(FIRST), "--gap", str(GAP)]
    rows: dict[tuple[str, float], list[dict[str, float]]] = {}
    with subprocess.Popen([*endpoint, *script], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            for name, value in {
                "ACCESS_KEY_ID": "test",
                "SECRET_ACCESS_KEY": "test",
                "DEFAULT_REGION": "us-east-1",
            }.items():
                os.environ[f"AWS_{name}"] = value
            os.environ["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] = url
            for _ in range(chosen.rounds):
                for rate, name in itertools.product(chosen.rates, ("sagemaker", "http")):
                    made = SageMakerClient("scripted", concurrency=256) if name == "sagemaker" else HttpClient(url)
                    found = run(made, rate, chosen.seconds, cores[0])
                    rows.setdefault((name, rate), []).append(found)
                    print(f"{name:9}", "  ".join(f"{key} {value}" for key, value in found.items()), flush=True)
        finally:
            server.kill()
    summary = [{"client": name, **summed_up(found)} for (name, _), found in rows.items()]
    at_goal = [row for row in summary if row["streams_per_second"] == GOAL_RATE]
    for row in at_goal:
        met = "met" if row["lag_ms_p99"] <= GOAL_LAG_MS else "missed"
        print(f"goal {met} by {row['client']}: 1 % sent {row['lag_ms_p99']} ms late or more at {GOAL_RATE} streams/s "
              f"(worst of {row['rounds']} rounds {row['worst_lag_ms_p99']} ms), at most {GOAL_LAG_MS:g}")  # fmt: skip
    result = {
        "benchmark": "generator",
        "tokens": TOKENS, "first_s": FIRST, "gap_s": GAP, "rows": summary,
        "goal": {"streams_per_second": GOAL_RATE, "lag_ms_p99": GOAL_LAG_MS,
                 "met": bool(at_goal) and all(row["lag_ms_p99"] <= GOAL_LAG_MS for row in at_goal)},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, "
        f"{'SCHED_FIFO' if chosen.fifo else 'ordinary scheduling'}",
        "python": platform.python_version(), "seed": 7,
    }  # fmt: skip
    if chosen.keep:
        (ROOT / "benchmarks" / "results" / "generator.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
