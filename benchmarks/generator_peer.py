"""The same streams measured by Heavylift and by LLMeter: `python benchmarks/generator_peer.py --peer-python PYTHON`.

Not a comparison of endpoints: one scripted endpoint (64 tokens, the first after 50 ms, then one every 5 ms), or with
--embedded NAME one that `heavylift up` has deployed on this machine (the four tasks' prompts, greedy), a closed load of
8 clients through InvokeEndpointWithResponseStream, each side in turn, in a process and on a core of its own;
medians over the rounds. TTFT and end to end are defined alike and should agree; LLMeter's TPOT ends with the stream,
ours with the last token. Without --peer-python (an interpreter with `llmeter`) only that is said. The last line is one
JSON object; the last one kept is results/generator_peer.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from heavylift.benchmark.client import SageMakerClient
from heavylift.benchmark.percentile import percentile
from heavylift.benchmark.run import measure
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.workload import Workload

ROOT = Path(__file__).resolve().parent.parent
SCRIPTED = ROOT / "benchmarks" / "scripted"
CLIENTS, EACH, ROUNDS = 8, 25, 3
Row = dict[str, float]


def ours(name: str) -> Row:
    subject = {
        "model": "scripted", "engine": "scripted", "quantization": "none", "dtype": "fp32", "batch": 1,
        "tensor_parallel_degree": 1, "workers": 1, "instance_type": "ml.c6i.xlarge", "instance_count": 1,
    }  # fmt: skip
    asked = {
        "format": "heavylift.benchmark/1", "subject": subject, "workload": "four-tasks", "stream": True, "slo": [],
        "load": {"mode": "closed", "concurrency": CLIENTS}, "warmup_requests": CLIENTS * EACH,
        "requests": CLIENTS * EACH, "max_seconds": 120, "seed": 7, "on_fail": "warn",
    }  # fmt: skip
    busy = time.process_time()
    client = SageMakerClient(name, concurrency=CLIENTS)
    recording = measure(Benchmark.from_dict(asked), client, run="peer", endpoint=name)
    busy = time.process_time() - busy
    measured = recording.measured
    assert all(sample.ok for sample in measured)
    ttft = [sample.first_token_s - sample.sent_s for sample in measured if sample.first_token_s is not None]
    tpot = [sample.tpot_ms / 1000 for sample in measured if sample.tpot_ms is not None]
    return row(ttft, [sample.service_ms / 1000 for sample in measured], tpot, busy / len(recording.samples))


def theirs(python: str, core: int, name: str) -> Row:
    prompts = ["hello"] if name == "scripted" else [each.input for each in Workload.load("four-tasks").examples]
    numbers = [str(number) for number in (CLIENTS, EACH, core)]
    command = [python, str(SCRIPTED / "llmeter_client.py"), *numbers, name, json.dumps(prompts)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    return row(said["ttft_s"], said["e2e_s"], said["tpot_s"], said["cpu_s"] / len(said["e2e_s"]))


def row(ttft: list[float], e2e: list[float], tpot: list[float], cpu: float) -> Row:
    ms = {
        "ttft_ms_p50": percentile(ttft, 50), "ttft_ms_p90": percentile(ttft, 90), "e2e_ms_p50": percentile(e2e, 50),
        "e2e_ms_p90": percentile(e2e, 90), "tpot_ms_p50": percentile(tpot, 50), "cpu_ms_per_stream": cpu,
    }  # fmt: skip
    return {name: value * 1000 for name, value in ms.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", help="an interpreter with llmeter")
    parser.add_argument("--fifo", action="store_true", help="schedule all processes before all others; as root")
    parser.add_argument("--embedded", metavar="NAME", help="an endpoint of the embedded AWS instead")
    parser.add_argument("--aws", default="http://localhost:4566", help="the embedded AWS")
    parser.add_argument("--keep", action="store_true", help="write results/generator_peer.json")
    chosen = parser.parse_args()
    if chosen.peer_python is None:
        print(json.dumps({"benchmark": "generator_peer", "skipped": "no --peer-python with llmeter"}))
        return
    cores = sorted(os.sched_getaffinity(0))
    if chosen.fifo:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    os.sched_setaffinity(0, {cores[0]})
    endpoint = [sys.executable, str(SCRIPTED / "endpoint.py"), "--core", str(cores[-1]), "--tokens", "64"]
    endpoint += ["--first", "0.05", "--gap", "0.005"]
    rounds: dict[str, list[Row]] = {"heavylift": [], "llmeter": []}
    name = "scripted" if chosen.embedded is None else chosen.embedded
    with subprocess.Popen(endpoint, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}" if chosen.embedded is None else chosen.aws
            os.environ |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")
            os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url}
            for _ in range(ROUNDS):
                rounds["heavylift"].append(ours(name))
                rounds["llmeter"].append(theirs(chosen.peer_python, cores[0], name))
        finally:
            server.kill()
    result = {
        "benchmark": "generator_peer", "endpoint": name,
        "clients": CLIENTS, "streams": CLIENTS * EACH, "rounds": ROUNDS,
        **{
            side: {key: round(statistics.median(each[key] for each in rows), 3) for key in rows[0]}
            for side, rows in rounds.items()
        },
        "scheduling": "SCHED_FIFO" if chosen.fifo else "ordinary",
    }  # fmt: skip
    for side in rounds:
        print(f"{side:10}", "  ".join(f"{key} {value}" for key, value in result[side].items()))
    if chosen.keep:
        file = "generator_peer.json" if chosen.embedded is None else "generator_peer_embedded.json"
        (ROOT / "benchmarks" / "results" / file).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
