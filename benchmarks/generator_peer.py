"""The same streams measured by Heavylift and by LLMeter: `python benchmarks/generator_peer.py --peer-python PYTHON`.

Not a comparison of endpoints: one scripted endpoint (64 tokens, the first after 50 ms, then one every 5 ms), or with
--embedded NAME one that `heavylift up` has deployed on this machine (25 of the four tasks' prompts, greedy, on both
sides), a closed load (of 8 clients; of one, with --clients 1, nobody waits for anybody) through
InvokeEndpointWithResponseStream, the sides in turn, in a process and on a core of their own.
TTFT and end to end are defined alike: told is whether they agree (agreement.py), and how much load each side offered:
requests under way, requests a second, what a client took between two requests; with --metrics URL also the requests
under way and their mean seconds as the server itself counted them. LLMeter's TPOT ends with the stream, ours with the
last token. Without --peer-python (an interpreter with `llmeter`) only that is said. The last line is one JSON object;
the last ones kept are results/generator_peer*.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sides.agreement import agreement
from sides.streams import Row, Streams, medians, ours

from heavylift.benchmark.client import SageMakerClient
from heavylift.benchmark.workload import Workload, packed

ROOT = Path(__file__).resolve().parent.parent
SCRIPTED = ROOT / "benchmarks" / "scripted"
PROMPTS, TOKENS = 25, 64
COUNTS = ("heavylift_request_seconds_sum", "heavylift_request_seconds_count")


def heavylift(name: str, prompts: Sequence[str], clients: int, each: int) -> Streams:
    client = SageMakerClient(name, concurrency=clients)
    lines = "".join(json.dumps({"task": "any", "input": text, "new_tokens": TOKENS}) + "\n" for text in prompts)
    workload = packed("prompts.jsonl", lines.encode())
    return ours(client, clients=clients, requests=clients * each, warmup=clients * each, workload=workload)


def llmeter(python: str, core: int, name: str, prompts: Sequence[str], clients: int, each: int) -> Streams:
    asked = {"clients": clients, "each": each, "core": core, "endpoint": name, "prompts": prompts}
    command = [python, str(SCRIPTED / "llmeter_client.py")]
    done = subprocess.run(
        command, input=json.dumps(asked), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    said = json.loads(done.stdout.splitlines()[-1])
    ends = [[one["begin_s"] + one["e2e_s"] for one in own] for own in said["clients"]]
    window = max(own[0]["begin_s"] for own in said["clients"]), min(map(max, ends))
    if window[0] >= window[1]:
        sys.exit(
            f"llmeter's clients were never all at work: one began {window[0] - window[1]:.3f} s after another's end"
        )
    every = sorted((one for own in said["clients"] for one in own), key=lambda one: one["begin_s"])
    busy = [one for one in every if window[0] <= one["begin_s"] <= window[1]]  # ramp and drain cut, as of ours
    begin = [one["begin_s"] for one in busy]
    times = ([one[key] * 1000 for one in busy if one[key] is not None] for key in ("ttft_s", "e2e_s", "tpot_s"))
    return Streams(begin, *times, said["cpu_s"] * 1000 / len(every), window, clients)


def counted(metrics: str | None) -> Row:
    """What the server counted until now: seconds of requests, and requests."""
    if metrics is None:
        return {}
    with urllib.request.urlopen(metrics, timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    told = {name: [line for line in lines if line.startswith(name)] for name in COUNTS}
    return {name: sum(float(line.rpartition(" ")[2]) for line in found) for name, found in told.items()}


def prompts_of(name: str) -> list[str]:
    """As many as a client sends: each of LLMeter's sends the first so many of its list."""
    if name == "scripted":
        return ["hello"]
    examples = Workload.load("four-tasks").examples
    return [each.input for each in random.Random(7).sample(examples, PROMPTS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer-python", help="an interpreter with llmeter")
    parser.add_argument("--fifo", action="store_true", help="schedule all processes before all others; as root")
    parser.add_argument("--embedded", metavar="NAME", help="an endpoint of the embedded AWS instead")
    parser.add_argument("--aws", default="http://localhost:4566", help="the embedded AWS")
    parser.add_argument("--metrics", metavar="URL", help="the /metrics of the server behind the endpoint")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--each", type=int, default=50, help="streams of a client in a round")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--keep", action="store_true", help="write results/generator_peer*.json")
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
    name = "scripted" if chosen.embedded is None else chosen.embedded
    prompts, load = prompts_of(name), (chosen.clients, chosen.each)
    rounds: dict[str, list[Streams]] = {"heavylift": [], "llmeter": []}
    server_side: dict[str, list[Row]] = {side: [] for side in rounds}
    with subprocess.Popen(endpoint, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}" if chosen.embedded is None else chosen.aws
            os.environ |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")
            os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url}
            run = {
                "heavylift": lambda: heavylift(name, prompts, *load),
                "llmeter": lambda: llmeter(chosen.peer_python, cores[0], name, prompts, *load),
            }
            for turn in range(chosen.rounds):
                for side in sorted(rounds, reverse=turn % 2 == 1):  # each is first as often
                    before = counted(chosen.metrics)
                    rounds[side].append(run[side]())
                    after = counted(chosen.metrics)
                    server_side[side].append({key: after[key] - before[key] for key in before})
        finally:
            server.kill()
    ratios = agreement(*rounds.values(), ("ttft_ms", "e2e_ms"))
    result: dict[str, Any] = {
        "benchmark": "generator_peer", "endpoint": name, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "clients": chosen.clients, "streams": chosen.clients * chosen.each, "rounds": chosen.rounds,
        **{side: medians([run.row() for run in runs]) for side, runs in rounds.items()},
        "agreement": [ratio.to_dict() for ratio in ratios],
        "scheduling": "SCHED_FIFO" if chosen.fifo else "ordinary",
        "load_average": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    for side, rows in server_side.items():
        if chosen.metrics is not None:  # with its warm-up, which is the same load
            seconds, count = (sum(row[key] for row in rows) for key in COUNTS)
            result[side]["server_ms_mean"] = round(seconds / count * 1000, 3)
            rate = result[side]["requests_per_second"]
            result[side]["server_under_way"] = round(rate * seconds / count, 3)  # Little's law
    for side in rounds:
        print(f"{side:10}", "  ".join(f"{key} {value}" for key, value in result[side].items()))
    for ratio in ratios:
        print(ratio.sentence)
    if chosen.keep:
        kind = "" if chosen.embedded is None else "_embedded" if chosen.clients > 1 else "_embedded_alone"
        (ROOT / "benchmarks" / "results" / f"generator_peer{kind}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
