"""The engines beside each other on the same models: tiny-llama's and tiny-t5's tasks, a Llama of 350 M random weights.

Not kernels alone (engine_speed.py): the real server, one engine after the other, nothing else of ours running. Each
request has four prompts and is sent when the one before it is answered (closed, 1 client); greedy. Engines that pin
packages run in .venv-vllm and .venv-deepspeed (`make vllm deepspeed`); one that is missing is left out, and said.
The columns are those of `heavylift bench`. `--keep` writes results/engines.json, docs/engines-<model>.png and the
tables of docs/engines-compared.md; 6 to 8 minutes. The last line is one JSON object.

    nice -n 0 python benchmarks/engines.py --keep
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sides.checkpoints import write_llama_350m

from heavylift.benchmark.client import HttpClient
from heavylift.benchmark.report import build_report
from heavylift.benchmark.run import measure
from heavylift.benchmark.spec import Benchmark
from heavylift.benchmark.verdict import judge
from heavylift.benchmark.workload import packed
from heavylift.calibrate.served import serving
from heavylift.errors import HeavyliftError
from heavylift.report import tails
from heavylift.report.table import COLUMNS, TEXTS, cells, plain
from heavylift_runtime.engines.interpreter import VARIABLE, own_environment
from heavylift_runtime.engines.registry import ENGINES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "engines-compared.md"
BEGIN, END = "<!-- measured by benchmarks/engines.py -->", "<!-- measured: end -->"
BATCH = 4
SECONDS = 25
"""Of each engine and model, at most, the warm-up among them; what it has answered by then counts."""
VLLM = "engine=Python\noption.entryPoint=djl_python.vllm\noption.kv_cache_memory_bytes=1073741824\n"
ACCELERATE = "engine=Python\noption.entryPoint=djl_python.huggingface\n"
LARGE, LLAMAS, EVERY = ("llama-350m",), ("tiny-llama", "llama-350m"), ("tiny-llama", "tiny-t5", "llama-350m")


@dataclass(frozen=True)
class Row:
    """One engine as it is set up, and for which models; `degree` ranks."""

    engine: str
    properties: str
    models: tuple[str, ...] = EVERY
    degree: int = 1
    quantization: str = "none"

    @property
    def name(self) -> str:
        return f"{self.engine}{'' if self.quantization == 'none' else f' {self.quantization}'}, degree {self.degree}"


ROWS = (
    Row("native", "engine=native\n"),
    Row("native", "engine=native\n", LLAMAS, degree=2),
    Row("native", "engine=native\noption.quantize=int8\n", quantization="int8"),
    Row("fastertransformer", "engine=FasterTransformer\n", ("tiny-t5",)),
    Row("accelerate", ACCELERATE),
    Row("accelerate", ACCELERATE, LARGE, degree=2),
    Row("deepspeed", "engine=DeepSpeed\n"),
    Row("deepspeed", "engine=DeepSpeed\n", LARGE, degree=2),
    Row("vllm", VLLM, LLAMAS),
    Row("vllm", VLLM, LARGE, degree=2),
)


@dataclass(frozen=True)
class Model:
    """What is served. `tokens`: of an answer, at most."""

    name: str
    folder: Path
    dtype: str
    workload: str | dict[str, Any]
    requests: int
    tokens: int


def models(scratch: Path, chosen: Sequence[str], requests: int | None) -> Iterator[Model]:
    for name in ("tiny-llama", "tiny-t5"):
        if name in chosen:
            yield Model(name, ROOT / "models" / name, "fp32", "four-tasks", requests or 100, 64)
    if "llama-350m" in chosen:
        folder, dice = scratch / "llama-350m", random.Random(5)
        write_llama_350m(folder)
        prompts = (" ".join(f"t{dice.randrange(3, 32000)}" for _ in range(32)) for _ in range(64))
        lines = "".join(json.dumps({"task": "random", "input": prompt}) + "\n" for prompt in prompts)
        yield Model("llama-350m", folder, "bf16", packed("random", lines.encode()), requests or 40, 32)


def measured(model: Model, row: Row) -> tuple[dict[str, Any], list[float]]:
    """The report, and each request's latency in ms."""
    properties = (
        f"{row.properties}option.model_id={model.folder}\noption.dtype={model.dtype}\n"
        f"option.tensor_parallel_degree={row.degree}\noption.max_rolling_batch_size={BATCH}\n"
        f"option.max_new_tokens={model.tokens}\n"
    )
    subject = {
        "model": model.name, "engine": row.engine, "quantization": row.quantization, "dtype": model.dtype,
        "batch": BATCH, "tensor_parallel_degree": row.degree, "workers": 1, "instance_type": "ml.c6i.large",
        "instance_count": 1,
    }  # fmt: skip
    asked = {
        "format": "heavylift.benchmark/1", "subject": subject, "workload": model.workload, "slo": [],
        "load": {"mode": "closed", "concurrency": 1}, "warmup_requests": max(2, model.requests // 20),
        "requests": model.requests, "max_seconds": SECONDS, "seed": 7, "on_fail": "warn",
    }  # fmt: skip
    with serving(properties) as served, HttpClient(served.url) as client:
        recording = measure(Benchmark.from_dict(asked), client, run="engines", endpoint=row.name)
        peaks = served.peaks()[1]
    report = build_report(recording, judge(recording), samples="-")
    report["peak_bytes"] = sum(peaks)
    return report, [sample.latency_ms if sample.ok else math.inf for sample in recording.measured]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=EVERY)
    parser.add_argument("--engine", action="append", choices=sorted({row.engine for row in ROWS}))
    parser.add_argument("--requests", type=int, help="of each engine, at most; default: 100, of llama-350m 40")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    os.environ |= {VARIABLE: str(ROOT), "HF_HUB_OFFLINE": "1"}
    document: dict[str, Any] = {"benchmark": "engines", "how": "measured", "models": {}}
    document["machine"] = {"cores": len(os.sched_getaffinity(0)), "processor": platform.machine()}
    document["machine"]["load_average_before"] = round(os.getloadavg()[0], 2)
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT)
    document["commit"] = done.stdout.strip()
    with tempfile.TemporaryDirectory() as scratch:
        for model in models(Path(scratch), args.model or EVERY, args.requests):
            reports, series = [], {}
            for row in ROWS:
                engine = ENGINES[row.engine]
                if model.name not in row.models or (args.engine and row.engine not in args.engine):
                    continue
                if engine.missing() is not None and own_environment(engine, ROOT) is None:
                    print(f"left out: {engine.missing()}")
                    continue
                try:
                    report, series[row.name] = measured(model, row)
                except HeavyliftError as error:  # the others are worth their time
                    print(f"left out: {model.name} on {row.name}: {error}")
                    continue
                reports.append(report)
                print(plain([report]).splitlines()[-1], flush=True)
                document["models"][model.name] = [_numbers(each) for each in reports]
                document["machine"]["load_average_after"] = round(os.getloadavg()[0], 2)
                if args.keep:  # after each engine: the next one may be interrupted
                    _keep(document, model, series)
            print(f"\n{plain(reports)}\n")
    print(json.dumps(document))


def _numbers(report: dict[str, Any]) -> dict[str, Any]:
    """The report's row, how many requests it is of, what its ranks took at most, and what share failed."""
    row = dict(zip(COLUMNS, cells(report), strict=True))
    more = {"requests": report["requests"]["measured"], "failed": report["errors"]["rate"]}
    return row | more | {"peak_megabytes": round(report["peak_bytes"] / 1e6)}


def _keep(document: dict[str, Any], model: Model, series: dict[str, list[float]]) -> None:
    below = f"{BATCH} prompts in a request, one client; {model.dtype}; {document['machine']['cores']} cores"
    picture = tails.to_png(f"{model.name}: share of the requests slower than so many ms", below, series)
    (ROOT / "docs" / f"engines-{model.name}.png").write_bytes(picture)
    (ROOT / "benchmarks" / "results" / "engines.json").write_text(json.dumps(document, indent=2) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    before, after = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    PAGE.write_text(before + "\n" + "\n".join(_lines(document)) + "\n" + after, encoding="utf-8")


def _lines(document: dict[str, Any]) -> Iterator[str]:
    """The page's part that was measured."""
    machine = document["machine"]
    load = f"a load of {machine['load_average_before']} before and {machine['load_average_after']} after"
    cores = f"{machine['cores']} cores ({machine['processor']})"
    yield f"**Conditions.** {cores}, {load}; commit {document['commit'][:12]}."
    titles = {**COLUMNS, "peak_megabytes": "Memory of the ranks (MB)", "requests": "Requests"}
    for name, rows in document["models"].items():
        yield ""
        yield f"| {' | '.join(titles.values())} |"
        yield f"|{'|'.join('---' if key in TEXTS else '--:' for key in titles)}|"
        for row in rows:
            yield f"| {' | '.join(f'{row[key]:,}' if isinstance(row[key], int) else row[key] for key in titles)} |"
        yield ""
        shown = f"Share of {name}'s requests slower than so many milliseconds, a line for each engine"
        yield f"![{shown}](engines-{name}.png)"


if __name__ == "__main__":
    main()
