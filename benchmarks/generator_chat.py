"""The same chat streams measured by Heavylift, AIPerf and GuideLLM: `python benchmarks/generator_chat.py --aiperf BIN`.

Not a comparison of endpoints: one scripted endpoint (64 tokens, the first after 50 ms, then one every 5 ms) speaks
OpenAI's chat API, under a closed load of 8 clients; each side in turn, all its processes on one core, the endpoint on
another. AIPerf and GuideLLM need environments of their own (`pip install aiperf`, `pip install guidellm`) and a local
tokenizer; without them only that is said. Time to the first token, end to end, and time per token after the first are
defined alike: told is whether each peer agrees with Heavylift (agreement.py). The last line is one JSON object; the
last one kept is results/generator_chat.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sides.agreement import agreement
from sides.streams import Streams, medians, ours

from heavylift.benchmark.client import HttpClient

ROOT = Path(__file__).resolve().parent.parent
CLIENTS, REQUESTS, TOKENS = 8, 200, 64
TOKENIZER = "models/tiny-llama"  # of this checkout: AIPerf takes names with one slash, and no paths


def heavylift(url: str) -> Streams:
    with HttpClient(f"{url}/v1/chat/completions") as client:
        return ours(client, clients=CLIENTS, requests=REQUESTS, warmup=CLIENTS, api="openai-chat")


def aiperf(binary: str, url: str, folder: Path) -> Streams:
    command = [
        binary, "profile", "--model", "scripted", "--url", url, "--endpoint-type", "chat", "--streaming",
        "--concurrency", str(CLIENTS), "--request-count", str(REQUESTS), "--warmup-request-count", str(CLIENTS),
        "--tokenizer", TOKENIZER, "--output-artifact-dir", str(folder), "--ui", "none", "--random-seed", "7",
        "--use-server-token-count",  # else it counts what its own tokenizer makes of the text
        "--synthetic-input-tokens-mean", "8", "--output-tokens-mean", str(TOKENS),
    ]  # fmt: skip
    busy = _run(command)
    (file,) = folder.rglob("profile_export.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    profiled = [record for record in records if record["metadata"]["benchmark_phase"] == "profiling"]
    profiled.sort(key=lambda record: record["metadata"]["request_start_ns"])
    begin = [record["metadata"]["request_start_ns"] / 1e9 for record in profiled]
    times = (
        [record["metrics"][name]["value"] for record in profiled if name in record["metrics"]]
        for name in ("time_to_first_token", "request_latency", "inter_token_latency")
    )
    return Streams(begin, *times, busy * 1000 / len(profiled), (begin[0], begin[-1]), CLIENTS)


def guidellm(binary: str, url: str, folder: Path) -> Streams:
    command = [
        binary, "run", "--backend", f"kind=openai_http,target={url},model=scripted",
        "--profile", f"kind=concurrent,streams={CLIENTS}", "--constraint", f"kind=max_requests,count={REQUESTS}",
        "--data", f"kind=synthetic_text,prompt_tokens=8,output_tokens={TOKENS}",
        "--tokenizer", f"kind=huggingface_auto,model={TOKENIZER}", "--disable-console-interactive",
        "--output", f"kind=json,path={folder / 'guidellm.json'}",
    ]  # fmt: skip
    busy = _run(command)
    report = json.loads((folder / "guidellm.json").read_text())
    requests = report["benchmarks"][0]["requests"]["successful"]
    requests.sort(key=lambda each: each["request_start_time"])
    begin = [each["request_start_time"] for each in requests]
    return Streams(
        begin,
        [each["time_to_first_token_ms"] for each in requests],
        [each["request_latency"] * 1000 for each in requests],
        [each["inter_token_latency_ms"] for each in requests],
        busy * 1000 / len(requests),
        (begin[0], begin[-1]),
        CLIENTS,
    )


def _run(command: list[str]) -> float:
    """Processor seconds of a command and all its processes."""
    quiet = {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_COLOR": "1"}  # no peer asks a hub for anything
    before = _cpu(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return _cpu(resource.RUSAGE_CHILDREN) - before


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--aiperf", help="the program, of an environment with aiperf")
    parser.add_argument("--guidellm", help="the program, of an environment with guidellm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="write results/generator_chat.json")
    chosen = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    endpoint = [sys.executable, str(ROOT / "benchmarks" / "scripted" / "endpoint.py"), "--core", str(cores[-1])]
    endpoint += ["--tokens", str(TOKENS), "--first", "0.05", "--gap", "0.005"]
    peers = {"aiperf": (aiperf, chosen.aiperf), "guidellm": (guidellm, chosen.guidellm)}
    rounds: dict[str, list[Streams]] = {"heavylift": [], **{name: [] for name, (_, binary) in peers.items() if binary}}
    with subprocess.Popen(endpoint, stdout=subprocess.PIPE, text=True) as server, tempfile.TemporaryDirectory() as made:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            for turn in range(chosen.rounds):
                rounds["heavylift"].append(heavylift(url))
                for name, (peer, binary) in peers.items():
                    if binary is not None:
                        rounds[name].append(peer(binary, url, Path(made) / f"{name}-{turn}"))
        finally:
            server.kill()
    result: dict[str, Any] = {
        "benchmark": "generator_chat",
        "clients": CLIENTS,
        "tokens": TOKENS,
        "rounds": chosen.rounds,
        "load_average": round(os.getloadavg()[0], 1),
        **{name: f"skipped: --{name} is not given" for name, (_, binary) in peers.items() if binary is None},
        **{name: medians([run.row() for run in runs]) for name, runs in rounds.items()},
    }
    for name, runs in rounds.items():
        print(f"{name:10}", "  ".join(f"{key} {value}" for key, value in result[name].items()))
        if name != "heavylift":
            ratios = agreement(rounds["heavylift"], runs, ("ttft_ms", "e2e_ms", "tpot_ms"))
            result[name]["agreement"] = [ratio.to_dict() for ratio in ratios]
            print("\n".join(f"           {ratio.sentence}" for ratio in ratios))
    if chosen.keep:
        (ROOT / "benchmarks" / "results" / "generator_chat.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
