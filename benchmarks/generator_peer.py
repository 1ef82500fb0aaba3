"""The same streams measured by Heavylift and by LLMeter: `python benchmarks/generator_peer.py --peer-python PYTHON`.

Not a comparison of endpoints: one scripted endpoint (64 tokens, the first after 50 ms, then one every 5 ms), or with
--embedded NAME one that `heavylift up` has deployed on this machine (25 of the four tasks' prompts, greedy, each eight
times on both sides), a closed load of 8 clients (for LLMeter 8 runners of one client: those of one runner send the
same prompts in step, and so meet each other at a server that batches) through InvokeEndpointWithResponseStream, each
side in turn, in a process and on a core of its own; medians over the rounds.
TTFT and end to end are defined alike and should agree; LLMeter's TPOT ends with the stream, ours with the last token.
Without --peer-python (an interpreter with `llmeter`) only that is said. The last line is one
JSON object; the last one kept is results/generator_peer.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sides.streams import Row, ours, row

from heavylift.benchmark.client import SageMakerClient
from heavylift.benchmark.workload import Workload, packed

ROOT = Path(__file__).resolve().parent.parent
SCRIPTED = ROOT / "benchmarks" / "scripted"
CLIENTS, EACH, ROUNDS, TOKENS = 8, 25, 3, 64


def heavylift(name: str, prompts: Sequence[str]) -> Row:
    client = SageMakerClient(name, concurrency=CLIENTS)
    lines = "".join(json.dumps({"task": "any", "input": text, "new_tokens": TOKENS}) + "\n" for text in prompts)
    requests = CLIENTS * EACH
    workload = packed("prompts.jsonl", lines.encode())
    return ours(client, clients=CLIENTS, requests=requests, warmup=requests, workload=workload)


def theirs(python: str, core: int, name: str, prompts: Sequence[str]) -> Row:
    numbers = [str(number) for number in (CLIENTS, EACH, core)]
    command = [python, str(SCRIPTED / "llmeter_client.py"), *numbers, name, json.dumps(prompts)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    times = ([seconds * 1000 for seconds in said[key]] for key in ("ttft_s", "e2e_s", "tpot_s"))
    return row(*times, said["cpu_s"] * 1000 / len(said["e2e_s"]))


def prompts_of(name: str) -> list[str]:
    """As many as a client sends: each of LLMeter's sends the first so many of its list."""
    if name == "scripted":
        return ["hello"]
    examples = Workload.load("four-tasks").examples
    return [each.input for each in random.Random(7).sample(examples, EACH)]


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
    prompts = prompts_of(name)
    with subprocess.Popen(endpoint, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}" if chosen.embedded is None else chosen.aws
            os.environ |= dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test")
            os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url}
            for _ in range(ROUNDS):
                rounds["heavylift"].append(heavylift(name, prompts))
                rounds["llmeter"].append(theirs(chosen.peer_python, cores[0], name, prompts))
        finally:
            server.kill()
    result: dict[str, Any] = {
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
