"""What the server costs over the bare engine: `python benchmarks/server_overhead.py`. Not a benchmark of the engine.

The same engine, the same prompts, the same number of clients that each send their next request when the last one is
answered: once in one process without any server (`add`, `step`), once over HTTP. The engine's process is pinned to one
core and the client to the other; the server is with the client (`--server client`) or with the engine (`--server
engine`), as there are two. The sides take turns, round by round.

Two subjects: tiny-t5, whose step takes about a millisecond, so that every microsecond of the server shows; and a T5 of
random weights in t5-small's shape, whose step is nearer to what a server is for. Latency added is the difference of the
percentiles of all rounds, in milliseconds; throughput kept is the median over the rounds of served over bare, in
tokens per second; the processor time of the server's own process, for each request and token, holds on a busy machine,
too. The last line is one JSON object; the one kept is results/server_overhead.json.

With `--peer-python .venv-vllm/bin/python` (`make vllm`) a third subject: tiny-llama on vLLM, bare, under this server
and under vLLM's own API server, asked the same completions; the peer's processor time is without its engine core's. A
busy machine may split its time by sessions, of which a rank is one: then only processor times can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STREAMS = (1, 8, 32, 128)
PROMPTS = [f"write in words: {number}" for number in range(100, 900, 7)]


@dataclass
class Round:
    """One side's seconds for each request, and its tokens per second."""

    latencies: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    server_cpu: float = 0.0  # seconds of the server's own process

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


class Bare:
    """The engine in a process of its own, driven by lines of JSON: [streams, seconds, new_tokens] → a round."""

    def __init__(self, python: str, folder: Path, core: int) -> None:
        self._process = subprocess.Popen(
            [python, __file__, "--bare", str(folder), str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def run(self, streams: int, seconds: float, tokens: int) -> Round:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([streams, seconds, tokens]), file=self._process.stdin, flush=True)
        while not (line := self._process.stdout.readline()).startswith("{"):
            assert line, "the bare engine has ended"  # vLLM writes its log there, too
        return Round(**json.loads(line))

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def environment() -> dict[str, str]:
    """One thread, our runtime on the path, and vLLM left to the core that it is put on."""
    own = {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    return {**os.environ, **own, "PYTHONPATH": str(ROOT / "runtime")}


def bare(folder: Path, core: int) -> None:
    """The process of Bare."""
    os.sched_setaffinity(0, {core})
    from heavylift_runtime.engines.engine import Request, Sampling
    from heavylift_runtime.engines.registry import ENGINES
    from heavylift_runtime.options import Options

    options = Options.load(folder, {})
    engine = importlib.import_module(ENGINES[options.engine].module).load(options, folder, 0, 1, "")
    for line in sys.stdin:
        streams, seconds, most = json.loads(line)
        made, began, key = Round(), dict[int, float](), 0
        start = now = time.perf_counter()
        while now - start < seconds or began:
            while len(began) < streams and now - start < seconds:
                key += 1
                began[key] = time.perf_counter()
                engine.add(key, Request(PROMPTS[key % len(PROMPTS)], Sampling(most, ignore_eos=True)))
            for piece in engine.step():
                if piece.last:
                    made.tokens += piece.generated_tokens
                    made.latencies.append(time.perf_counter() - began.pop(piece.key))
            now = time.perf_counter()
        made.seconds = now - start
        print(json.dumps(vars(made)), flush=True)


@contextmanager
def served(
    command: Sequence[str], port: int, log: Path, engine_core: int, server_core: int
) -> Iterator[tuple[int, int]]:
    """The port and the id of a server, its own process on one core and what it starts on the other."""
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said, env=environment()) as process:
        try:
            os.sched_setaffinity(process.pid, {engine_core})  # and so what it starts: the rank counts its cores
            while asyncio.run(fetch(port)) != b"200":
                assert process.poll() is None, log.read_text()[-2000:]
                time.sleep(0.05)
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), {server_core})
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def fetch(port: int) -> bytes:
    """The status of /ping; nothing where nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return b""
    writer.write(b"GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    data = await reader.read()
    writer.close()
    return data[9:12]


def asked(openai: bool, turn: int, most: int, stream: bool) -> tuple[bytes, bytes]:
    """Path and body of a request: LMI's, or OpenAI's where vLLM's own server is to answer it, too."""
    prompt = PROMPTS[turn % len(PROMPTS)]
    if openai:
        body: dict[str, Any] = {"model": "tiny-llama", "prompt": prompt, "max_tokens": most, "temperature": 0}
        body |= {"ignore_eos": True, "stream": stream} | ({"stream_options": {"include_usage": True}} if stream else {})
        return b"/v1/completions", json.dumps(body).encode()
    parameters = {"max_new_tokens": most, "ignore_eos_token": True, "details": True}
    return b"/invocations", json.dumps({"inputs": prompt, "parameters": parameters, "stream": stream}).encode()


async def client(port: int, ask: tuple[bool, bool], number: int, until: float, most: int, made: Round) -> None:
    """One client on one connection: the next request when the last is answered, in as little code as HTTP allows."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    (openai, stream), turn = ask, number
    while time.perf_counter() < until:
        path, body = asked(openai, turn, most, stream)
        turn += 1
        began = time.perf_counter()
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" % path)
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        if stream:
            data = await reader.readuntil(b"0\r\n\r\n")
        else:
            data = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
        counts = re.findall(rb'"completion_tokens": ?(\d+)', data)
        made.tokens += int(counts[-1]) if counts else data.count(b'"token"')
        made.latencies.append(time.perf_counter() - began)
    writer.close()


def cpu_of(process: int) -> float:
    """Seconds of a processor that the process has used, all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load_server(at: tuple[int, int], streams: int, ask: tuple[bool, bool], seconds: float, most: int) -> Round:
    """`ask`: whether in OpenAI's words, and whether as a stream."""
    (port, process), made, start = at, Round(), time.perf_counter()
    used = cpu_of(process)
    until = start + seconds
    await asyncio.gather(*(client(port, ask, number * 7, until, most, made) for number in range(streams)))
    made.seconds, made.server_cpu = time.perf_counter() - start, cpu_of(process) - used
    return made


def subjects(folder: Path, peer: str | None) -> Iterator[tuple[str, Path, str]]:
    """tiny-t5; a T5 of random weights with t5-small's shape and tiny-t5's words; tiny-llama on vLLM."""
    native = f"engine=native\noption.dtype=fp32\noption.max_rolling_batch_size={max(STREAMS)}\n"
    tiny = folder / "tiny-t5"
    shutil.copytree(ROOT / "models" / "tiny-t5", tiny)
    yield "tiny-t5", tiny, native
    if peer is not None:
        llama = shutil.copytree(ROOT / "models" / "tiny-llama", folder / "tiny-llama")
        vllm = f"engine=Python\noption.entryPoint=djl_python.vllm\noption.pythonExecutable={peer}\n"
        more = f"option.dtype=fp32\noption.max_rolling_batch_size={max(STREAMS)}\noption.enforce_eager=true\n"
        yield "tiny-llama-vllm", llama, vllm + more
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(7)
    small, config = folder / "t5-small-shape", json.loads((tiny / "config.json").read_text())
    shape = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8, "num_layers": 6, "num_decoder_layers": 6}
    model = T5ForConditionalGeneration(T5Config(**(config | shape)))
    model.save_pretrained(small)
    for each in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (tiny / each).exists():
            shutil.copy(tiny / each, small)
    yield "t5-small-shape", small, native


def percentile(values: list[float], share: float) -> float:
    """Nearest rank, in milliseconds."""
    return sorted(values)[max(0, -(-int(share * 1000) * len(values) // 1000) - 1)] * 1000


def measure(name: str, folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one subject."""
    engine_core, client_core = sorted(os.sched_getaffinity(0))[:2]
    cores = engine_core, client_core if args.server == "client" else engine_core
    openai = name.endswith("-vllm")
    python, ports, rows = args.peer_python if openai else sys.executable, [free_port(), free_port()], []
    ours = [sys.executable, "-m", "heavylift_runtime", "serve", str(folder), "--port", str(ports[0])]
    theirs = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", str(ports[1])]
    theirs += ["--host", "127.0.0.1", "--served-model-name", "tiny-llama", "--dtype", "float32", "--enforce-eager"]
    theirs += ["--max-num-seqs", str(max(STREAMS)), "--disable-uvicorn-access-log"]
    with ExitStack() as stack:
        servers = {"": stack.enter_context(served(ours, ports[0], folder.with_suffix(".log"), *cores))}
        if openai:
            servers["peer_"] = stack.enter_context(served(theirs, ports[1], folder.with_suffix(".peer.log"), *cores))
        engine = Bare(python, folder, engine_core)
        stack.callback(engine.close)
        os.sched_setaffinity(0, {client_core})
        for streams in args.streams or STREAMS:
            rounds: dict[str, list[Round]] = {}
            for number in range(-1, args.rounds):
                made = {"bare": engine.run(streams, args.seconds, args.tokens)}
                for whose, at in servers.items():
                    for side, ask in (("whole", (openai, False)), ("stream", (openai, True))):
                        made[whose + side] = asyncio.run(load_server(at, streams, ask, args.seconds, args.tokens))
                if number >= 0:  # the first round warms up
                    for side, each in made.items():
                        rounds.setdefault(side, []).append(each)
            rows.append(row_of(streams, rounds))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def row_of(streams: int, rounds: Mapping[str, list[Round]]) -> dict[str, Any]:
    latencies = {side: [each for made in many for each in made.latencies] for side, many in rounds.items()}
    row: dict[str, Any] = {"streams": streams, "requests": {side: len(many) for side, many in latencies.items()}}
    row["bare_ms"] = {f"p{share}": round(percentile(latencies["bare"], share / 100), 2) for share in (50, 99)}
    row["bare_tokens_per_second"] = round(statistics.median(each.rate for each in rounds["bare"]))
    for side in [each for each in rounds if each != "bare"]:
        pairs = zip(rounds["bare"], rounds[side], strict=True)
        row[side] = {
            f"added_ms_p{share}": round(
                percentile(latencies[side], share / 100) - percentile(latencies["bare"], share / 100), 2
            )
            for share in (50, 99)
        }
        row[side]["throughput_kept"] = round(statistics.median(each.rate / own.rate for own, each in pairs), 3)
        used = sum(each.server_cpu for each in rounds[side]) * 1e6
        row[side]["server_cpu_us_per_request"] = round(used / len(latencies[side]))
        row[side]["server_cpu_us_per_token"] = round(used / sum(each.tokens for each in rounds[side]), 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one side in one round")
    parser.add_argument("--tokens", type=int, default=32, help="of every answer")
    parser.add_argument("--server", choices=["client", "engine"], default="client", help="whose core it shares")
    parser.add_argument("--subject", help="only this one")
    parser.add_argument("--peer-python", help="the interpreter of an environment with vLLM: its own server, too")
    parser.add_argument("--streams", type=int, nargs="+", help="only these numbers of clients")
    parser.add_argument("--bare", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare is not None:
        bare(Path(args.bare[0]), int(args.bare[1]))
        return
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    cores = os.sched_getaffinity(0)
    found = {"before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as scratch:
        table = {}
        for name, folder, properties in subjects(Path(scratch), args.peer_python):
            os.sched_setaffinity(0, cores)
            if args.subject in (None, name):
                (folder / "serving.properties").write_text(properties)
                table[name] = measure(name, folder, args)
    document = {
        "benchmark": "server_overhead",
        "how": "measured",
        "units": {"added_ms": "ms", "throughput_kept": "share of the bare engine's tokens/s"},
        "tokens": args.tokens,
        "rounds": args.rounds,
        "seconds": args.seconds,
        "server_on": f"the core of the {args.server}",
        "commit": commit.strip(),
        "instance": {
            "machine": platform.machine(),
            "cores": len(cores),
            "load_average": [round(found["before"], 2), round(os.getloadavg()[0], 2)],
        },
        "subjects": table,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
