"""What the server costs over the bare engine: `python benchmarks/server_overhead.py`. Not a benchmark of the engine.

The same engine, the same prompts, the same number of clients that each send their next request when the last one is
answered: once without any server (`add`, `step`), once over HTTP, in the same process, for no two are alike
(sides/bare_engine.py). That is pinned to one core and the client to the other; the server is with the client (`--server
client`) or with the engine (`--server engine`), as there are two. The sides take turns, round by round, each round
begun by another.

Answers have 32 tokens; where there are several clients, 16 to 48, drawn. Of one length they would march in step without
a server, and only there: all end in one step, so that the engine reads all next prompts in one pass, which behind no
server's clients happens. (`--equal` measures that: what tiny-t5 then loses is the passes of prompts that come alone.)

One client of a server leaves the engine without work between its requests, and an engine that paused is slower at
first. So `bare`, with which latency is compared, pauses as long between two requests, as measured in the rounds before;
`unpaced` has the next one in the same moment, and is what throughput is compared with. Latency added is the difference
of the percentiles of all rounds, in milliseconds, with the interval that 95 % of drawings of rounds agree on
(sides/added.py): where the goal is in there, the run decides nothing. `engine_added` is the part of it that the engine
took longer, `outside` a request's own time before and after the engine had it, for which the engine's ups and downs are
nothing. One client's rounds are short and many: what disturbs a machine for seconds then disturbs all sides. The first
answer of each, on a new connection and after another side's, counts for its tokens only.

Where there are several clients, `relayed` is the rank's own loop, with messages and a client's way there and back, but
no server, no wake-ups and nobody on the other core (sides/relayed.py): what is lost there, no server can keep.

Two subjects: tiny-t5, whose step takes about a third of a millisecond, so that every microsecond of the server shows;
and a T5 of random weights in t5-small's shape, whose step is nearer to what a server is for. Throughput kept is the
median over the rounds of served over bare, in tokens per second; the processor time of the server's own process, for
each request and token, holds on a busy machine, too. `engine_waited` is the share of its turns in which a side's engine
could have run and the kernel let another process, `stolen` what the machine's host took. The last line is one JSON
object; the one kept is results/server_overhead.json.

With `--peer-python .venv-vllm/bin/python` (`make vllm`) a third subject: tiny-llama on vLLM, bare, under this server
and under vLLM's own API server, asked the same completions; the peer's processor time is without its engine core's. A
busy machine may split its time by sessions, of which a rank is one: then only processor times can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sides.added import added, percentile
from sides.bare_engine import ROOT, Bare, Round, Sizes
from sides.over_http import load_server, served

from heavylift.local.plugin.port import free_port
from heavylift_runtime.garbage import settle

STREAMS = (1, 8, 32, 128)
SHARES = (50, 99)
GOAL_MS, GOAL_KEPT = 2.0, 0.95  # p99 added at 1 stream; tokens per second kept at 32
SUBJECTS = TINY, LLAMA, SMALL = "tiny-t5", "tiny-llama-vllm", "t5-small-shape"
MORE, SHORTER = 8, 2  # rounds of one client for each of several, and how much shorter one is


def subjects(folder: Path, peer: str | None) -> Iterator[tuple[str, Path, str]]:
    """tiny-t5; a T5 of random weights with t5-small's shape and tiny-t5's words; tiny-llama on vLLM."""
    native = f"engine=native\noption.dtype=fp32\noption.max_rolling_batch_size={max(STREAMS)}\n"
    tiny = folder / "tiny-t5"
    shutil.copytree(ROOT / "models" / "tiny-t5", tiny)
    yield TINY, tiny, native
    if peer is not None:
        llama = shutil.copytree(ROOT / "models" / "tiny-llama", folder / "tiny-llama")
        vllm = "engine=Python\noption.entryPoint=djl_python.vllm\n"
        more = f"option.dtype=fp32\noption.max_rolling_batch_size={max(STREAMS)}\noption.enforce_eager=true\n"
        yield LLAMA, llama, vllm + more
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
    yield SMALL, small, native


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
            sides, seconds, rounds = sides_of(engine, servers, streams, sizes, openai=openai), args.seconds, args.rounds
            if streams == 1:
                seconds, rounds = seconds / SHORTER, rounds * MORE
            for run in reversed(sides.values()):
                run(min(1.0, seconds))  # warms up; the bare engine's last, which needs to know the pauses
            made: dict[str, list[Round]] = {side: [] for side in sides}
            before = stolen(), time.perf_counter()
            for number in range(rounds):
                begun = number % len(sides)
                for side in (*list(sides)[begun:], *list(sides)[:begun]):
                    made[side].append(sides[side](seconds))
            taken = (stolen() - before[0]) / (time.perf_counter() - before[1])
            rows.append(row_of(streams, made) | {"stolen": round(taken, 4)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def sides_of(
    engine: Bare, servers: Mapping[str, tuple[int, int]], streams: int, sizes: Sizes, *, openai: bool
) -> dict[str, Callable[[float], Round]]:
    """What takes turns, by name; each gets its seconds."""
    pauses: dict[str, Sequence[float]] = {}  # of the last round of each of our server's sides

    def ask(side: str, at: tuple[int, int], stream: bool, seconds: float) -> Round:
        made = load_server(at, streams, (openai, stream), seconds, sizes)
        seen = engine.seen()
        if streams == 1 and at == servers.get(""):
            made.seen, pauses[side] = seen, seen.pauses
        return made

    def bare(seconds: float) -> Round:
        return engine.run(streams, seconds, sizes, [each for of in pauses.values() for each in of])

    sides: dict[str, Callable[[float], Round]] = {"bare": bare}
    if streams == 1:
        sides["unpaced"] = partial(engine.run, streams, sizes=sizes)
    else:
        sides["relayed"] = partial(engine.relayed, streams, sizes=sizes)
    for whose, at in servers.items():
        for side, stream in (("whole", False), ("stream", True)):
            sides[whose + side] = partial(ask, whose + side, at, stream)
    return sides


def row_of(streams: int, rounds: Mapping[str, list[Round]]) -> dict[str, Any]:
    turns = {side: [_counted(streams, made.latencies) for made in many] for side, many in rounds.items()}
    latencies = {side: [each for turn in many for each in turn] for side, many in turns.items()}
    row: dict[str, Any] = {
        "streams": streams,
        "requests": {side: len(many) for side, many in latencies.items() if many},
    }
    engines = [side for side in ("bare", "unpaced") if side in rounds]
    fastest = rounds[engines[-1]]
    if "relayed" in rounds:
        row["relayed_kept"] = _kept(fastest, rounds["relayed"])
    for side in engines:
        row[f"{side}_ms"] = {f"p{share}": round(percentile(latencies[side], share / 100), 2) for share in SHARES}
    row["bare_tokens_per_second"] = round(statistics.median(each.rate for each in fastest))
    row["engine_waited"] = {side: _waited(many) for side, many in rounds.items()}
    for side in [each for each in rounds if each not in (*engines, "relayed")]:
        row[side] = _added("added", turns["bare"], turns[side])
        if seen := [made.seen for made in rounds[side] if made.seen is not None]:
            had = [_counted(streams, each.had) for each in seen]
            outside = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(turns[side], had, strict=True)]
            row[side] |= _added("engine_added", turns["bare"], had)
            row[side] |= _added("outside", [[0.0]] * len(outside), outside)
            pauses = [each for made in seen for each in made.pauses]
            row[side]["pause_ms"] = round(percentile(pauses, 0.5), 2) if pauses else None
        row[side]["throughput_kept"] = _kept(fastest, rounds[side])
        used = sum(each.server_cpu for each in rounds[side]) * 1e6
        row[side]["server_cpu_us_per_request"] = round(used / sum(len(each.latencies) for each in rounds[side]))
        row[side]["server_cpu_us_per_token"] = round(used / sum(each.tokens for each in rounds[side]), 1)
    return row


def _counted(streams: int, values: Sequence[float]) -> Sequence[float]:
    """Of a round: of one client all but the first, where there are more."""
    return values[1:] if streams == 1 and len(values) > 1 else values


def _added(name: str, bare: Sequence[Sequence[float]], side: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Differences of percentiles, each with its interval."""
    found: dict[str, Any] = {}
    for share in SHARES:
        more = added(bare, side, share / 100)
        found |= {f"{name}_ms_p{share}": more.found, f"{name}_ms_p{share}_95": [more.low, more.high]}
    return found


def _kept(bare: Sequence[Round], side: Sequence[Round]) -> float:
    """Of the bare engine's tokens per second."""
    return round(statistics.median([each.rate / own.rate for own, each in zip(bare, side, strict=True)]), 3)


def _waited(rounds: Sequence[Round]) -> float:
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
                    beside = row[side].get("outside_ms_p99")
                    what = f"p99 added at 1 stream, {side}: {found} ms ({low} to {high}); outside the engine {beside}"
                    yield _verdict(name, what, None if low < GOAL_MS <= high else found < GOAL_MS)
                if row["streams"] == 32:
                    found = row[side]["throughput_kept"]
                    what = f"throughput kept at 32 streams, {side}: {found:.1%}; with messages alone"
                    yield _verdict(name, f"{what} {row['relayed_kept']:.1%}", found >= GOAL_KEPT)


def _verdict(name: str, what: str, met: bool | None) -> str:
    return f"{'open  ' if met is None else 'met   ' if met else 'missed'} {name}: {what}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one side in one round")
    parser.add_argument("--tokens", type=int, default=32, help="of every answer")
    parser.add_argument("--server", choices=["client", "engine"], default="client", help="whose core it shares")
    parser.add_argument("--subject", help="only this one", choices=SUBJECTS)
    parser.add_argument("--peer-python", help="the interpreter of an environment with vLLM: its own server, too")
    parser.add_argument("--streams", type=int, nargs="+", help="only these numbers of clients")
    parser.add_argument("--equal", action="store_true", help="all answers of one length, also of several clients")
    args = parser.parse_args()
    if args.subject == LLAMA and args.peer_python is None:
        parser.error(f"{LLAMA} needs --peer-python")
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
            "added_ms": "ms of a request; _95: the interval of 95 % of drawings of rounds",
            "engine_added_ms": "of these, what the engine took longer for the same requests",
            "outside_ms": "a request's ms before and after the engine had it",
            "pause_ms": "in which the engine had none",
            "throughput_kept, relayed_kept": "share of the bare engine's tokens/s",
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
