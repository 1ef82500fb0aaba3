"""Heavylift's native engine beside transformers' generate, on tiny-t5: `python benchmarks/native_t5.py`.

Not a benchmark of a served endpoint (no HTTP, no queue): prompts in, texts out, in one process; with --degree 2 in two.
Greedy, fp32, the four tasks of training/tasks.py on inputs never trained on. Both sides get the same prompts, answer
them with the same tokens (proved first), and take turns, round by round; a round's number is tokens generated,
end-of-sequence included, per second of wall clock, and the table shows the median of the rounds. transformers is
measured with one thread and with as many as there are cores; the better one counts. The last line is one JSON object;
the last one kept is results/native_t5.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

from heavylift_runtime.engines.engine import Engine, Request, Sampling
from heavylift_runtime.engines.native import load
from heavylift_runtime.options import Options

ROOT = Path(__file__).resolve().parent.parent
BATCHES = (1, 4, 16)
TURN = 0.3  # seconds of one side in one round, at least
LIMIT = 48  # new tokens, more than any answer needs
Answer = Callable[[list[str]], tuple[list[str], int]]  # prompts → texts, tokens generated


def prompts(seed: int) -> list[str]:
    """16 prompts, the four tasks in turn."""
    sys.path.insert(0, str(ROOT / "training"))
    from tasks import TASKS, examples

    streams = [examples(task, seed=seed, unseen=True) for task in TASKS]
    return [next(streams[row % 4])[0] for row in range(16)]


def heavylift(engine: Engine) -> Answer:
    def answer(texts: list[str]) -> tuple[list[str], int]:
        said = [""] * len(texts)
        count = 0
        for key, text in enumerate(texts):
            engine.add(key, Request(text, Sampling(LIMIT)))
        while engine.busy:
            for piece in engine.step():
                said[piece.key] += "".join(token.text for token in piece.tokens)
                count += len(piece.tokens)
        return said, count

    return answer


def peer(folder: Path, threads: int) -> Answer:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(texts: list[str]) -> tuple[list[str], int]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with torch.inference_mode():
            ids = tokenizer(texts, padding=True, return_tensors="pt")
            tokens = model.generate(
                input_ids=ids.input_ids, attention_mask=ids.attention_mask, max_new_tokens=LIMIT, do_sample=False
            )
        torch.set_num_threads(before)
        # the first token is the start token, those after the end are padding
        count = int((tokens[:, 1:] != tokenizer.pad_token_id).sum())
        return tokenizer.batch_decode(tokens, skip_special_tokens=True), count

    return answer


def speeds(sides: dict[str, Answer], texts: list[str], rounds: int) -> dict[str, list[float]]:
    """Tokens per second of each side and round; the sides take turns."""
    expected, tokens = sides["transformers, 1 thread"](texts)
    for name, side in sides.items():
        assert side(texts) == (expected, tokens), f"{name} answers otherwise"
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            repeats, started = 0, time.perf_counter()
            while (spent := time.perf_counter() - started) < TURN or repeats == 0:
                side(texts)
                repeats += 1
            measured[name].append(tokens * repeats / spent)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "tiny-t5")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--degree", type=int, default=2, help="also measure the engine over so many ranks; 1: not")
    parser.add_argument("--follow", nargs=2, metavar=("RANK", "RENDEZVOUS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.follow is not None:
        load(Options(batch_size=16), args.model, int(args.follow[0]), args.degree, args.follow[1]).follow()
        return

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    cores = len(os.sched_getaffinity(0))
    threads = sorted({1, cores})
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"file://{folder}/rendezvous"
        command = [sys.executable, __file__, "--model", str(args.model), "--degree", str(args.degree), "--follow"]
        followers = [subprocess.Popen([*command, str(rank), rendezvous]) for rank in range(1, args.degree)]
        engines = {f"native, {args.degree} ranks": load(Options(batch_size=16), args.model, 0, args.degree, rendezvous)}
        if args.degree > 1:
            engines = {"native, 1 rank": load(Options(batch_size=16), args.model, 0, 1, "")} | engines
        sides = {name: heavylift(engine) for name, engine in engines.items()}
        sides |= {f"transformers, {count} thread{'s' * (count > 1)}": peer(args.model, count) for count in threads}
        texts = prompts(args.seed)
        table = {batch: speeds(sides, texts[:batch], args.rounds) for batch in BATCHES}
        for engine in engines.values():
            engine.close()
        for follower in followers:
            follower.wait(30)

    print(json.dumps(report(table, args)))


def report(table: dict[int, dict[str, list[float]]], args: argparse.Namespace) -> dict[str, Any]:
    """Prints the table of medians; returns the JSON object."""
    cores, load_average = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    sides = list(table[BATCHES[0]])
    medians = {batch: {name: statistics.median(row) for name, row in rows.items()} for batch, rows in table.items()}
    print(f"\ntokens per second, median of {args.rounds} rounds, {cores} cores, load average {load_average:.1f}\n")
    print(f"{'batch':>5}" + "".join(f"{name:>25}" for name in sides) + f"{'native / transformers':>24}")
    ratios = {}
    for batch, row in medians.items():
        best = max(value for name, value in row.items() if name.startswith("transformers"))
        ratios[batch] = row[sides[0]] / best
        print(f"{batch:>5}" + "".join(f"{value:>25,.0f}" for value in row.values()) + f"{ratios[batch]:>23.1f}x")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return {
        "benchmark": "native_t5",
        "how": "measured",
        "unit": "tokens/s of wall clock, median of rounds",
        "model": args.model.name,
        "dtype": "fp32",
        "rounds": args.rounds,
        "seed": args.seed,
        "commit": commit.strip(),
        "instance": {"machine": platform.machine(), "cores": cores, "load_average": round(load_average, 2)},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "tokens_per_second": {batch: {name: round(v) for name, v in row.items()} for batch, row in medians.items()},
        "range": {batch: {n: [round(min(v)), round(max(v))] for n, v in rows.items()} for batch, rows in table.items()},
        "native_over_transformers": {batch: round(ratio, 2) for batch, ratio in ratios.items()},
    }


if __name__ == "__main__":
    main()
