"""The native engine beside transformers on this machine's first GPU, on random weights in published shapes.

Not a served endpoint: no HTTP, no text, one process, no checkpoint (weights are drawn where they stay). The mission's
workload: batches of four prompts of 32 tokens, 64 new ones each, greedy, the end ignored; a latency is that of a whole
batch. The sides take turns, the first batch of each warms up (it compiles and records). The GPU's memory is read in the
same run; the engine's share of it is the bytes of weights and cache that a step reads (the plan's own count) times
steps per second. Both sides are held at once: T5-XXL in fp32 takes 90 GB. The last line is one JSON object. Without a
GPU it says so and ends; `--tiny` takes shapes of a few thousand numbers, on a processor, too, which shows that this
program runs and nothing else.
`python benchmarks/gpu.py [--case C] [--batches N] [--compile] [--tiny]`
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from heavylift.plan.model import ModelFacts
from heavylift.plan.performance.work import Work
from heavylift_runtime.engines.engine import Sampling
from heavylift_runtime.families import family_of
from heavylift_runtime.families.stages import WHOLE
from heavylift_runtime.families.table import shard
from heavylift_runtime.native.architectures import model_of
from heavylift_runtime.native.core import Core
from heavylift_runtime.native.distributed import Alone
from heavylift_runtime.native.limits import Limits
from heavylift_runtime.native.loader import outputs_first
from heavylift_runtime.native.memory import free
from heavylift_runtime.native.news import Arrival, News
from heavylift_runtime.native.place import HOST, within
from heavylift_runtime.native.quantize.forms import Matrix
from heavylift_runtime.native.quantize.rounding import float8_of
from heavylift_runtime.native.replay import recorder_of

PROMPT, ANSWER, ROWS = 32, 64, 4
GOALS = {"transformers": 3.0, "bandwidth": 0.7}
T5_XXL = {
    "model_type": "t5", "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
    "num_decoder_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip
"""google/flan-t5-xxl's config.json."""
LLAMA_8B = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    "tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
}  # fmt: skip
"""meta-llama/Llama-3.1-8B's, without its stretched waves."""
TINY = {
    "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4,
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A shape in a precision."""

    name: str
    config: dict[str, Any]
    dtype: str
    quantize: str = "none"


CASES = (
    Case("t5-xxl bf16", T5_XXL, "bf16"),
    Case("t5-xxl fp32", T5_XXL, "fp32"),
    Case("llama-8b bf16", LLAMA_8B, "bf16"),
    Case("llama-8b fp8", LLAMA_8B, "bf16", "fp8"),
)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Side = Callable[[list[list[int]]], int]
"""Answers a batch; the tokens that it generated."""


class Drawn:
    """A model's weights, drawn in the shapes of its family's table."""

    stage = WHOLE

    def __init__(self, case: Case, device: torch.device) -> None:
        self.dtype, self.device, self._quantize = DTYPES[case.dtype], device, case.quantize
        self._table = {weight.name: weight for weight in family_of(case.config).weights(case.config)}

    @property
    def total(self) -> int:
        return sum(shard(weight, 0, 1).elements for weight in self._table.values()) * self.dtype.itemsize

    def has(self, name: str) -> bool:
        return name in self._table

    def take(self, name: str) -> Tensor:
        shape = shard(self._table[name], 0, 1).shape
        return torch.randn(shape, dtype=self.dtype, device=self.device).mul_(0.02)

    def matrix(self, name: str) -> Matrix:
        matrix = outputs_first(self._table[name], self.take(name))
        if self._quantize != "fp8":
            return matrix
        with HOST:
            form = float8_of(matrix.cpu())
        return type(form)(form.levels.to(self.device), form.scale.to(self.device))


def native(case: Case, device: torch.device, *, compiles: bool) -> Side:
    with torch.inference_mode(), within(device):
        model = model_of(case.config, Drawn(case, device), Alone())
        limits = Limits.of(model, 2 * (PROMPT + ANSWER))
        record = recorder_of(device, eager=False, compiles=compiles)
        core = Core(model, 0, {1}, ROWS, int(0.9 * free(device)), limits, record=record)
    how = Sampling(ANSWER, ignore_eos=True)

    def answer(prompts: list[list[int]]) -> int:
        news, count = News(tuple(Arrival(key, tuple(prompt), how, 0) for key, prompt in enumerate(prompts))), 0
        with torch.inference_mode():
            while core.busy or news.arrived:
                count += sum(len(progress.chosen) for progress in core.step(news))
                news = News()
        return count

    return answer


def theirs(case: Case, device: torch.device) -> Side:
    config = transformers.AutoConfig.for_model(**case.config)
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    with device:
        model: Any = kind.from_config(config, dtype=DTYPES[case.dtype])  # type: ignore[no-untyped-call]  # its own

    def answer(prompts: list[list[int]]) -> int:
        ids = torch.tensor(prompts, device=device)
        with torch.inference_mode():
            found = model.eval().generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=ANSWER,
                max_new_tokens=ANSWER, pad_token_id=0,
            )  # fmt: skip
        new = found.shape[1] - (1 if config.is_encoder_decoder else PROMPT)
        return int(len(prompts) * new)

    return answer


def timed(side: Side, prompts: list[list[int]], device: torch.device) -> float:
    """Seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    count = side(prompts)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    assert count == len(prompts) * ANSWER, f"{count} tokens"
    return time.perf_counter() - started


def bandwidth(device: torch.device) -> float:
    """Bytes read per second: the largest of many numbers, far more than any cache holds; the best of ten."""
    buffer = torch.zeros(2**30 if device.type == "cuda" else 2**24, dtype=torch.int32, device=device)
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        int(buffer.max())
        best = max(best, buffer.nbytes / (time.perf_counter() - started))
    return best


def percentile(values: list[float], share: float) -> float:
    """The nearest rank's."""
    return sorted(values)[max(0, -(-int(share * len(values) * 100) // 100) - 1)]


def measure(case: Case, device: torch.device, batches: int, rate: float, *, compiles: bool) -> dict[str, Any]:
    """Prints the case's lines; returns its part of the document."""
    generator = torch.Generator().manual_seed(11)
    sides = {"native": native(case, device, compiles=compiles)}
    if case.quantize == "none":
        sides["transformers"] = theirs(case, device)
    seen: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(batches + 1):
        prompts = torch.randint(3, case.config["vocab_size"], (ROWS, PROMPT), generator=generator).tolist()
        for name, side in sides.items():
            seconds = timed(side, prompts, device)
            if turn > 0:
                seen[name].append(seconds)
    found: dict[str, Any] = {}
    print(f"\n{case.name}: {ROWS} x {PROMPT} → {ANSWER} tokens, {batches} batches")
    for name, values in seen.items():
        marks = {f"p{mark}_ms": round(percentile(values, mark / 100) * 1000, 2) for mark in (50, 90, 99)}
        speed = ROWS * ANSWER / statistics.median(values)
        found[name] = {**marks, "tokens_per_second": round(speed, 1)}
        print(f"{name:>14}  " + "  ".join(f"{mark} {value:>9}" for mark, value in found[name].items()))
    work = Work.of(ModelFacts.of(case.config), case.dtype, case.quantize)
    read = work.read_bytes(float(ROWS)) + work.cache_bytes(PROMPT, ANSWER / 2) * ROWS
    share = read * ANSWER / statistics.median(seen["native"]) / rate
    found["bandwidth_share"] = {"step_bytes": round(read), "share": round(share, 3), "goal": GOALS["bandwidth"]}
    print(f"{'':>14}  {share:.2f} of {rate / 1e9:.0f} GB/s, goal {GOALS['bandwidth']}; the prompts' pass is in it")
    if "transformers" in found:
        ratio = found["native"]["tokens_per_second"] / found["transformers"]["tokens_per_second"]
        found["ratio"] = {"transformers": round(ratio, 2), "goal": GOALS["transformers"]}
        print(f"{'':>14}  {ratio:.2f} x transformers, goal {GOALS['transformers']}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--compile", action="store_true", help="the engine's steps go through torch.compile")
    parser.add_argument("--tiny", action="store_true", help="shapes of a few thousand numbers; says nothing of speed")
    args = parser.parse_args()
    if not torch.cuda.is_available() and not args.tiny:
        print("there is no GPU here: nothing was measured")
        print(json.dumps({"benchmark": "gpu", "how": "not run: no GPU"}))
        return
    device = torch.device("cuda", 0) if torch.cuda.is_available() else HOST
    rate = bandwidth(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    document: dict[str, Any] = {"benchmark": "gpu", "how": "measured", "machine": {"device": name}, "cases": {}}
    document["machine"] |= {"bandwidth": round(rate), "torch": torch.__version__, "tiny": args.tiny}
    for case in CASES:
        if args.case is None or case.name in args.case:
            config = {**case.config, **{key: TINY[key] for key in TINY if args.tiny and key in case.config}}
            shaped = Case(case.name, config, case.dtype, case.quantize)
            document["cases"][case.name] = measure(shaped, device, args.batches, rate, compiles=args.compile)
            if device.type == "cuda":
                torch.cuda.empty_cache()
    print(json.dumps(document))


if __name__ == "__main__":
    main()
