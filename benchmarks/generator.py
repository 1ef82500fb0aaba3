"""How late the load generator is, and what it costs: `python benchmarks/generator.py`.

Not a benchmark of an endpoint. The generator, on one core, sends an open Poisson load of streams to a scripted endpoint
on another core: 64 tokens, the first after 50 ms, then one every 5 ms. Told are the lag (actual minus intended send),
how far the measured TTFT is from the scripted one, and processor time per stream; for SageMaker's event stream through
boto3, and for JSON lines over plain HTTP. On a machine with neighbours, --fifo keeps them out of the result. The last
line is one JSON object; the last one kept is results/generator.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from heavylift.benchmark.client import Client, HttpClient, SageMakerClient
from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.run import measure
from heavylift.benchmark.spec import Benchmark

ROOT = Path(__file__).resolve().parent.parent
TOKENS, FIRST, GAP = 64, 0.05, 0.005


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


def run(client: Client, rate: float, seconds: float) -> dict[str, Any]:
    asked = benchmark(rate, seconds)
    busy, wall = time.process_time(), time.monotonic()
    recording = measure(asked, client, run="generator", endpoint="scripted")
    busy, wall = time.process_time() - busy, time.monotonic() - wall
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
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", type=float, nargs="+", default=[25, 75, 125])
    parser.add_argument("--seconds", type=float, default=10)
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
    rows = []
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
            for rate in chosen.rates:
                for name in ("sagemaker", "http"):
                    made = SageMakerClient("scripted", concurrency=256) if name == "sagemaker" else HttpClient(url)
                    rows.append({"client": name, **run(made, rate, chosen.seconds)})
                    told = "  ".join(f"{key} {value}" for key, value in rows[-1].items())
                    print(told, flush=True)
        finally:
            server.kill()
    result = {
        "benchmark": "generator",
        "tokens": TOKENS, "first_s": FIRST, "gap_s": GAP, "rows": rows,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, "
        f"{'SCHED_FIFO' if chosen.fifo else 'ordinary scheduling'}",
        "python": platform.python_version(), "seed": 7,
    }  # fmt: skip
    if chosen.keep:
        (ROOT / "benchmarks" / "results" / "generator.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
