"""What benchmarks/engines.py sets beside each other: the models, and the engines as they are set up for each.

Not how they are measured, nor the page. Every row of a model gets the same prompts, dtype and requests; only what the
row's name says differs.
"""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heavylift.benchmark.workload import packed

BATCH = 4
"""Prompts in a request, and rows that an engine computes at once."""
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
    """What is served; a row gets `requests`, or what it answers in `seconds`."""

    name: str
    folder: Path
    dtype: str
    workload: str | dict[str, Any]
    requests: int
    seconds: float

    def properties(self, row: Row) -> str:
        """serving.properties of a row."""
        return (
            f"{row.properties}option.model_id={self.folder}\noption.dtype={self.dtype}\n"
            f"option.tensor_parallel_degree={row.degree}\noption.max_rolling_batch_size={BATCH}\n"
        )

    def benchmark(self, row: Row, *, warm_up: bool) -> dict[str, Any]:
        """The benchmark's document. The warm-up has other prompts, and at least one request, however slow it is."""
        subject = {
            "model": self.name, "engine": row.engine, "quantization": row.quantization, "dtype": self.dtype,
            "batch": BATCH, "tensor_parallel_degree": row.degree, "workers": 1, "instance_type": "ml.c6i.large",
            "instance_count": 1,
        }  # fmt: skip
        how = {"requests": 4, "max_seconds": 6, "seed": 8} if warm_up else {"requests": self.requests, "seed": 7}
        return {
            "format": "heavylift.benchmark/1", "subject": subject, "workload": self.workload, "slo": [],
            "load": {"mode": "closed", "concurrency": 1}, "warmup_requests": 0, "max_seconds": self.seconds,
            "on_fail": "warn", **how,
        }  # fmt: skip


def models(root: Path, scratch: Path, chosen: tuple[str, ...], *, trial: bool = False) -> Iterator[Model]:
    """Those that are asked for; of a trial every row gets two requests, of few tokens, which measure nothing."""
    for name in ("tiny-llama", "tiny-t5"):
        if name in chosen:
            yield Model(name, root / "models" / name, "fp32", "four-tasks", 2 if trial else 100, 12.0)
    if "llama-350m" in chosen:
        folder, dice = scratch / "llama-350m", random.Random(5)
        writer = multiprocessing.get_context("spawn").Process(target=_write, args=(folder,))
        writer.start()  # its gigabytes and threads end with it
        writer.join()
        assert writer.exitcode == 0, f"llama-350m was not written: exit code {writer.exitcode}"
        prompts = (" ".join(f"t{dice.randrange(3, 32000)}" for _ in range(32)) for _ in range(208))
        more = {"task": "random", "new_tokens": 3 if trial else 32}
        lines = "".join(json.dumps({"input": prompt} | more) + "\n" for prompt in prompts)
        yield Model("llama-350m", folder, "bf16", packed("random", lines.encode()), 2 if trial else 40, 20.0)


def _write(folder: Path) -> None:
    from sides.checkpoints import write_llama_350m  # torch: in that process only

    write_llama_350m(folder)
