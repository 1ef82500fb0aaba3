"""What the server costs over the bare engine: `python benchmarks/server_overhead.py`. Not a benchmark of the engine.

The same engine, the same prompts, the same number of clients that each send their next request when the last one is
answered: once without any server (`add`, `step`), once over HTTP, in the same process, for no two are alike
(sides/bare_engine.py). That is pinned to one core and the client to the other; the server is with the client (`--server
client`) or with the engine (`--server engine`), as there are two. The sides take turns, round by round, each round
begun by another.

Answers have 32 tokens; where there are several clients, 16 to 48, drawn. Of one length they would march in step without
a server, and only there: all end in one step, so that the engine reads all next prompts in one pass, which behind no
server's clients happens. (`--equal` measures that: what tiny-t5 then loses is the passes of prompts that come alone.)

Two subjects: tiny-t5, whose step takes about a millisecond, so that every microsecond of the server shows; and a T5 of
random weights in t5-small's shape, whose step is nearer to what a server is for. Latency added is the difference of the
percentiles of all rounds, in milliseconds, with the interval that 95 % of drawings of rounds agree on (sides/added.py):
where the goal is in there, the run decides nothing. One client has three times as many rounds: the 99th percentile of
fewer than a hundred answers is the slowest one. Throughput kept is the median over the rounds of served over bare, in
tokens per second; the processor time of the server's own process, for each request and token, holds on a busy machine,
too. `engine_waited` is the share of its turns in which a side's engine could have run and the kernel let another
process, `stolen` what the machine's host took. The last line is one JSON object; the one kept is
results/server_overhead.json.

With `--peer-python .venv-vllm/bin/python` (`make vllm`) a third subject: tiny-llama on vLLM, bare, under this server
and under vLLM's own API server, asked the same completions; the peer's processor time is without its engine core's. A
busy machine may split its time by sessions, of which a rank is one: then only processor times can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
from sides.added import added, percentile
from sides.bare_engine import MOST, PROMPTS, ROOT, Bare, Round, Sizes, below, environment, waited

from heavylift.local.plugin.port import free_port
from heavylift_runtime.garbage import settle

STREAMS = (1, 8, 32, 128)
GOAL_MS, GOAL_KEPT = 2.0, 0.95  # p99 added at 1 stream; tokens per second kept at 32
MORE = 3  # rounds of one client for each of several
PATIENCE = 60.0
"""Seconds that a server may take to answer what was asked last, and to end."""
COUNTS = re.compile(rb'"completion_tokens": ?(\d+)')
LENGTH = re.compile(rb"content-length: (\d+)")


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
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()


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


def asked(openai: bool, turn: int, most: int, stream: bool) -> bytes:
    """A request: LMI's, or OpenAI's where vLLM's own server is to answer it, too."""
    prompt = PROMPTS[turn % len(PROMPTS)]
    if openai:
        body: dict[str, Any] = {"model": "tiny-llama", "prompt": prompt, "max_tokens": most, "temperature": 0}
        body |= {"ignore_eos": True, "stream": stream} | ({"stream_options": {"include_usage": True}} if stream else {})
        return posted(b"/v1/completions", body)
    parameters = {"max_new_tokens": most, "ignore_eos_token": True, "details": True}
    return posted(b"/invocations", {"inputs": prompt, "parameters": parameters, "stream": stream})


def posted(path: bytes, document: Mapping[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (path, len(body)) + body


class Client(asyncio.Protocol):
    """One client on one connection: the next request when the last is answered, in as little code as HTTP allows."""

    def __init__(self, requests: Sequence[bytes], number: int, stream: bool, until: float, made: Round) -> None:
        self.over = asyncio.get_running_loop().create_future()
        self._requests, self._turn, self._stream, self._until, self._made = requests, number, stream, until, made
        self._data, self._began = b"", 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of TCP
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._data.endswith(b"\r\n0\r\n\r\n") if self._stream else not self._whole():
            return
        self._made.latencies.append(time.perf_counter() - self._began)
        assert self._data.startswith(b"HTTP/1.1 200 "), self._data
        counts = COUNTS.findall(self._data)
        self._made.tokens += int(counts[-1]) if counts else self._data.count(b'"token"')
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(error or ConnectionError("the server hung up"))

    def _whole(self) -> bool:
        head, _, body = self._data.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        return found is not None and len(body) == int(found[1])

    def _ask(self) -> None:
        self._began, self._data = time.perf_counter(), b""
        if self._began < self._until:
            self._transport.write(self._requests[self._turn % len(self._requests)])
            self._turn += 1
        else:
            self.over.set_result(None)
            self._transport.close()


def cpu_of(process: int) -> float:
    """Seconds of a processor that the process has used, all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load_server(at: tuple[int, int], streams: int, ask: tuple[bool, bool], seconds: float, sizes: Sizes) -> Round:
    """`ask`: whether in OpenAI's words, and whether as a stream."""
    (port, process), (openai, stream) = at, ask
    requests = [asked(openai, turn, most, stream) for turn, most in enumerate(sizes.first(MOST))]

    async def load() -> Round:
        loop, made, start = asyncio.get_running_loop(), Round(), time.perf_counter()
        used, until = cpu_of(process), start + seconds
        late = sum(map(waited, below(process)))
        clients = [Client(requests, number * 7, stream, until, made) for number in range(streams)]
        for each in clients:
            await loop.create_connection(lambda each=each: each, "127.0.0.1", port)  # type: ignore[misc]
        async with asyncio.timeout(seconds + PATIENCE):
            await asyncio.gather(*(each.over for each in clients))
        made.seconds, made.server_cpu = time.perf_counter() - start, cpu_of(process) - used
        made.waited = sum(map(waited, below(process))) - late
        return made

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load())


def subjects(folder: Path, peer: str | None) -> Iterator[tuple[str, Path, str]]:
    """tiny-t5; a T5 of random weights with t5-small's shape and tiny-t5's words; tiny-llama on vLLM."""
    native = f"engine=native\noption.dtype=fp32\noption.max_rolling_batch_size={max(STREAMS)}\n"
    tiny = folder / "tiny-t5"
    shutil.copytree(ROOT / "models" / "tiny-t5", tiny)
    yield "tiny-t5", tiny, native
    if peer is not None:
        llama = shutil.copytree(ROOT / "models" / "tiny-llama", folder / "tiny-llama")
        vllm = "engine=Python\noption.entryPoint=djl_python.vllm\n"
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


def stolen() -> float:
    """Seconds of all processors that the machine's host gave to others (proc(5), /proc/stat)."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


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
        engine = Bare(folder.with_suffix(".socket"))
        with (folder / "serving.properties").open("a") as properties:
            properties.write(f"option.pythonExecutable={engine.rank(python)}\n")
        servers = {"": stack.enter_context(served(ours, ports[0], folder.with_suffix(".log"), *cores))}
        engine.meet()
        stack.callback(engine.close)
        if openai:
            servers["peer_"] = stack.enter_context(served(theirs, ports[1], folder.with_suffix(".peer.log"), *cores))
        os.sched_setaffinity(0, {client_core})
        settle()  # this process's own pauses are no server's
        for streams in args.streams or STREAMS:
            sizes = Sizes(args.tokens, 0 if streams == 1 or args.equal else args.tokens // 2)
            sides: dict[str, Callable[[float], Round]] = {"bare": partial(engine.run, streams, sizes=sizes)}
            for whose, at in servers.items():
                for side, stream in (("whole", False), ("stream", True)):
                    sides[whose + side] = partial(load_server, at, streams, (openai, stream), sizes=sizes)
            for run in sides.values():
                run(min(1.0, args.seconds))  # warms up
            rounds: dict[str, list[Round]] = {side: [] for side in sides}
            before = stolen(), time.perf_counter()
            for number in range(args.rounds * (MORE if streams == 1 else 1)):
                begun = number % len(sides)
                for side in (*list(sides)[begun:], *list(sides)[:begun]):
                    rounds[side].append(sides[side](args.seconds))
            taken = (stolen() - before[0]) / (time.perf_counter() - before[1])
            rows.append(row_of(streams, rounds) | {"stolen": round(taken, 4)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def row_of(streams: int, rounds: Mapping[str, list[Round]]) -> dict[str, Any]:
    latencies = {side: [each for made in many for each in made.latencies] for side, many in rounds.items()}
    row: dict[str, Any] = {"streams": streams, "requests": {side: len(many) for side, many in latencies.items()}}
    row["bare_ms"] = {f"p{share}": round(percentile(latencies["bare"], share / 100), 2) for share in (50, 99)}
    row["bare_tokens_per_second"] = round(statistics.median(each.rate for each in rounds["bare"]))
    row["engine_waited"] = {side: _share(many) for side, many in rounds.items()}
    turns = {side: [made.latencies for made in many] for side, many in rounds.items()}
    for side in [each for each in rounds if each != "bare"]:
        pairs = zip(rounds["bare"], rounds[side], strict=True)
        row[side] = {}
        for share in (50, 99):
            more = added(turns["bare"], turns[side], share / 100)
            row[side] |= {f"added_ms_p{share}": more.found, f"added_ms_p{share}_95": [more.low, more.high]}
        row[side]["throughput_kept"] = round(statistics.median(each.rate / own.rate for own, each in pairs), 3)
        used = sum(each.server_cpu for each in rounds[side]) * 1e6
        row[side]["server_cpu_us_per_request"] = round(used / len(latencies[side]))
        row[side]["server_cpu_us_per_token"] = round(used / sum(each.tokens for each in rounds[side]), 1)
    return row


def _share(rounds: Sequence[Round]) -> float:
    """Of the rounds' time, what the engine waited for a processor."""
    seconds = sum(each.seconds for each in rounds)
    return round(sum(each.waited for each in rounds) / seconds, 4)


def goals(table: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """A line for each goal of each subject that was measured."""
    for name, rows in table.items():
        for row in rows:
            for side in ("whole", "stream"):
                if row["streams"] == 1:
                    found, (low, high) = row[side]["added_ms_p99"], row[side]["added_ms_p99_95"]
                    what = f"p99 added at 1 stream, {side}: {found} ms ({low} to {high})"
                    yield _verdict(name, what, None if low < GOAL_MS <= high else found < GOAL_MS)
                if row["streams"] == 32:
                    found = row[side]["throughput_kept"]
                    yield _verdict(name, f"throughput kept at 32 streams, {side}: {found:.1%}", found >= GOAL_KEPT)


def _verdict(name: str, what: str, met: bool | None) -> str:
    return f"{'open  ' if met is None else 'met   ' if met else 'missed'} {name}: {what}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one side in one round")
    parser.add_argument("--tokens", type=int, default=32, help="of every answer")
    parser.add_argument("--server", choices=["client", "engine"], default="client", help="whose core it shares")
    parser.add_argument("--subject", help="only this one")
    parser.add_argument("--peer-python", help="the interpreter of an environment with vLLM: its own server, too")
    parser.add_argument("--streams", type=int, nargs="+", help="only these numbers of clients")
    parser.add_argument("--equal", action="store_true", help="all answers of one length, also of several clients")
    args = parser.parse_args()
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
        "units": {
            "added_ms": "ms; _95: the interval of 95 % of drawings of rounds",
            "throughput_kept": "share of the bare engine's tokens/s",
            "engine_waited": "share of the time",
            "stolen": "processors",
        },
        "tokens": args.tokens,
        "lengths": "equal" if args.equal else "from half to one and a half of `tokens` where there are several streams",
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
    print(*goals(table), sep="\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
