"""What the plan counts with: the sizes and the rate of requests, and the times to keep, from the model file.

Not a measurement. `traffic` says it; else the benchmark's load and workload do, of which only characters are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

from heavylift.benchmark.workload import Workload
from heavylift.plan.parts import How
from heavylift.plan.performance.load import Load, Targets
from heavylift.plan.performance.speed import Request
from heavylift.spec import ModelSpec

CHARACTERS, WORDS = 3.0, 0.75
"""Characters, and words, of a token; assumed: English has 4 characters with a large vocabulary, 2 with a small one."""
ANSWERED = 60.0
"""Seconds after which InvokeEndpoint gives up on a reply that is not streamed:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html"""
SECONDS = {"e2e_latency": "request", "ttft": "first_token", "tpot": "per_token", "itl": "per_token"}


@dataclass(frozen=True)
class Traffic:
    """The load and the targets; `how` they are known, and the arithmetic."""

    load: Load
    targets: Targets
    how: How
    why: str


def traffic_of(spec: ModelSpec, new_tokens: int, prompt_tokens: int, *, streams: bool) -> Traffic:
    """`new_tokens`: the most that an answer has where the request gives no number; `prompt_tokens`: of an
    unknown prompt; `streams`: the engine can."""
    slo = _slo(spec)
    if not streams:
        slo["request"] = min(slo.get("request", ANSWERED), ANSWERED)
    given = spec.traffic
    if given is None:
        load, how, why = _benchmarked(spec, new_tokens, prompt_tokens)
        return Traffic(load, Targets(**slo), how, why)
    for name, most in (("first_token", given.max_first_token_ms), ("per_token", given.max_per_token_ms)):
        if most is not None:
            slo[name] = min(slo.get(name, most / 1e3), most / 1e3)
    load = _load(spec, Request(float(given.input_tokens), float(given.output_tokens)))
    if given.requests_per_second is not None:
        load = Load(load.request, requests_per_second=given.requests_per_second)
    return Traffic(load, Targets(**slo), "given", f"the model file: {describe(load)}")


@cache
def packaged(name: str) -> Workload:
    """One of the benchmark's own workloads: read once, for there may be a hundred models."""
    return Workload.load(name)


def describe(load: Load) -> str:
    """For people."""
    size = f"{load.request.prompt:.0f} tokens in, {load.request.answer:.0f} out"
    if load.requests_per_second is not None:
        return f"{load.requests_per_second:g} requests per second of {size}"
    batch = f" with {load.prompts} prompts each" if load.prompts > 1 else ""
    return f"{load.clients} client{'s' * (load.clients > 1)}{batch}, {size}"


def _load(spec: ModelSpec, request: Request) -> Load:
    """The benchmark's: its clients, or its rate, with so many prompts in each request as the server batches."""
    prompts = spec.serving.batch_size
    shape: dict[str, Any] = {} if spec.benchmark is None else spec.benchmark.load.model_dump()
    rate = shape.get("rate")
    if rate is not None:
        return Load(request, prompts, float(rate))
    return Load(request, prompts, clients=int(shape.get("concurrency", 1)))


def _benchmarked(spec: ModelSpec, new_tokens: int, prompt_tokens: int) -> tuple[Load, How, str]:
    if spec.benchmark is None:
        load = _load(spec, Request(float(prompt_tokens), float(new_tokens)))
        return load, "assumed", f"neither 'traffic' nor 'benchmark' says it: {describe(load)}"
    prompt, answer, source = _sizes(spec.benchmark.workload, prompt_tokens)
    answer = float(new_tokens) if answer is None else min(answer, float(new_tokens))
    load = _load(spec, Request(max(prompt, 1.0), max(answer, 1.0)))
    return load, "assumed", f"the benchmark ({source}): {describe(load)}"


def _sizes(workload: Any, unknown: int) -> tuple[float, float | None, str]:
    """Tokens of a prompt and of an answer (None: no answer is known), and where they are from."""
    if isinstance(workload, str):
        examples = packaged(workload).examples
        prompt = fmean(len(example.input) for example in examples) / CHARACTERS
        known = [len(example.answer) for example in examples if example.answer is not None]
        answer = fmean(known) / CHARACTERS + 1 if known else None  # and the end of the sequence
        return prompt, answer, f"workload {workload}, {CHARACTERS:g} characters a token"
    synthetic = getattr(workload, "synthetic", None)
    words, tokens = getattr(synthetic, "prompt_words", None), getattr(synthetic, "new_tokens", None)
    if words is None:
        return float(unknown), tokens, "a workload of unknown sizes"
    return fmean(words) / WORDS, None if tokens is None else fmean(tokens), f"its words, {WORDS:g} a token"


def _slo(spec: ModelSpec) -> dict[str, float]:
    """The strictest target of each kind, in seconds (tokens per second as they are)."""
    found: dict[str, float] = {}
    for target in () if spec.benchmark is None else (each.model_dump() for each in spec.benchmark.slo):
        name = SECONDS.get(str(target["metric"]))
        if name is not None and target.get("max_ms") is not None:
            found[name] = min(found.get(name, float("inf")), float(target["max_ms"]) / 1e3)
        elif target["metric"] == "tokens_per_second":
            found["tokens_per_second"] = float(target["min"])
    return found
