"""Who needs how many bytes, on the host and on an accelerator; each row with its formula. Not the choice of a type.

The identity is vLLM's fit check: usable memory - weights per rank - activations - cache - context (docs.vllm.ai,
"Conserving memory"); the constants below are assumptions until an endpoint has been measured, and say so in their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.plan.facts import InstanceFact
from heavylift.plan.plan import LedgerRow, Memory, Where

GIB = 2**30
BYTES_PER_ELEMENT = {"fp32": 4, "fp16": 2, "bf16": 2}

HOST_SYSTEM = GIB  # the operating system, SageMaker's agent, the container's base
HOST_PROCESS = GIB // 2  # a Python process with torch on the CPU: 0.25 GiB measured at import, doubled
HOST_GPU_PROCESS = 3 * GIB  # a CUDA context's host side, pinned buffers
ACCELERATOR_CONTEXT = {1: int(0.15 * GIB)}  # one rank; with more, NCCL's buffers as well
ACCELERATOR_CONTEXT_SHARED = int(0.6 * GIB)
USABLE_SHARE = 0.9  # of an accelerator's memory, vLLM's default of gpu_memory_utilization
PROMPT_TOKENS = 512  # T5's training length; longer prompts are served from the slack
SCRIPT_WORKING_SHARE = 0.25  # of the weights, for a script's activations


@dataclass(frozen=True)
class Need:
    """What one copy of the model holds: bytes of weights, cache and activations on its fullest rank."""

    weights: int
    weights_formula: str
    cache: int
    cache_formula: str
    activations: int
    activations_formula: str


def family_need(config: Mapping[str, Any], per_rank: int, degree: int, element: int, rows: int, tokens: int) -> Need:
    """A model whose table of weights is known. `rows` in a batch, `tokens` generated for each; `element` in bytes."""
    layers = _first(config, "num_decoder_layers", "num_layers", "num_hidden_layers")
    width = _first(config, "num_heads", "num_attention_heads") * _first(config, "d_kv", "head_dim")
    inner = _first(config, "d_ff", "intermediate_size")
    vocabulary = _first(config, "vocab_size")
    cache = 2 * layers * width // degree * (PROMPT_TOKENS + tokens) * rows * element
    # the widest layer's input and output, and fp32 logits with their softmax
    activations = rows * (4 * PROMPT_TOKENS * max(inner // degree, width) * element + 2 * vocabulary * 4)
    return Need(
        per_rank,
        f"table of weights at degree {degree}, {element} bytes each",
        cache,
        f"2 · {layers} layers · {width}/{degree} wide · ({PROMPT_TOKENS} + {tokens}) tokens · {rows} rows "
        f"· {element} bytes",
        activations,
        f"{rows} rows · (4 · {PROMPT_TOKENS} tokens · max({inner}/{degree}, {width}) · {element} "
        f"+ 2 · {vocabulary} · 4), assumed",
    )


def script_need(weights: int, ranks: int) -> Need:
    """A script: nothing is known but the size of its files."""
    share = -(-weights // ranks)
    working = int(share * SCRIPT_WORKING_SHARE)
    return Need(
        share,
        f"{weights} bytes of files / {ranks}",
        0,
        "counted with the activations",
        working,
        f"{SCRIPT_WORKING_SHARE} of the weights, assumed",
    )


def ledger(fact: InstanceFact, need: Need, degree: int, processes: int, workers: int) -> Memory:
    """All rows for `workers` copies of `degree` shares each, run by `processes` processes a copy, on one instance."""
    rows = tuple(_rows(fact, need, degree, processes, workers))
    accelerator = 0 if fact.accelerator is None else _device_memory(fact)
    return Memory(rows, int(fact.memory_gib * GIB), int(accelerator * USABLE_SHARE))


def _rows(fact: InstanceFact, need: Need, degree: int, processes: int, workers: int) -> Iterator[LedgerRow]:
    where: Where = "host" if fact.hardware == "cpu" else "accelerator"
    shares = degree * workers if where == "host" else 1
    times = f"{shares} · " if shares > 1 else ""
    yield LedgerRow(where, "weights", shares * need.weights, f"{times}{need.weights} ({need.weights_formula})")
    yield LedgerRow(where, "cache", shares * need.cache, f"{times}{need.cache} ({need.cache_formula})")
    yield LedgerRow(
        where, "activations", shares * need.activations, f"{times}{need.activations} ({need.activations_formula})"
    )
    each = HOST_PROCESS
    if where == "accelerator":
        context = ACCELERATOR_CONTEXT.get(degree, ACCELERATOR_CONTEXT_SHARED)
        yield LedgerRow(where, "context", context, "driver, libraries and communication, assumed")
        each = HOST_GPU_PROCESS
        yield LedgerRow(
            "host", "loading", workers * need.weights, f"{workers} ranks load at a time, {need.weights} bytes each"
        )
    count = 1 + processes * workers
    yield LedgerRow(
        "host", "processes", count * each, f"(1 server + {processes} · {workers} ranks) · {each / GIB:g} GiB, assumed"
    )
    yield LedgerRow("host", "system", HOST_SYSTEM, f"{HOST_SYSTEM / GIB:g} GiB, assumed")


def _device_memory(fact: InstanceFact) -> float:
    """Bytes that one rank owns: a GPU, or a NeuronCore's share of its chip."""
    assert fact.accelerator is not None
    return fact.accelerator.memory_gib * GIB / fact.accelerator.cores


def _first(config: Mapping[str, Any], *names: str) -> int:
    """The first of some spellings that config.json has; its family has checked that they are numbers."""
    return next((int(config[name]) for name in names if config.get(name) is not None), 0)
