"""How many prompts a copy's memory holds at once, for the engines that are not planned byte by byte. Not its speed.

vLLM by its own identity (heavylift.plan.memory.vllm); the others by the same one with assumed activations, as
large as one layer's.
"""

from __future__ import annotations

from math import ceil

from heavylift.plan.memory.vllm import GIB, GRAPHS, UTILIZATION, batching, budget, fewer_sequences
from heavylift.plan.model import BYTES, ModelFacts
from heavylift.plan.performance.speed import Request
from heavylift.plan.search.candidate import Option
from heavylift.plan.validity.neuron import neuron_cache_factor

CONTEXT = (0.25, 2.0)
"""GiB outside the engine's own arrays: one rank; several, with their collectives' buffers. Assumed, as vLLM 0.19's."""
MOST_ROWS = 64
"""Prompts in a batch of an engine without a paged cache; assumed."""


def room(model: ModelFacts, option: Option, request: Request) -> tuple[int, str | None]:
    """Prompts with their answers, and the sentence that says what is missing where not even one fits."""
    accelerator, split = option.fact.accelerator, option.split
    assert accelerator is not None, "engines on processors are planned byte by byte"
    tokens, source = _tokens(model, request)
    each = model.cache_bytes(tokens, source=source, tp=split.tp, pp=split.pp, kv_dtype=option.dtype)
    if option.fact.hardware == "neuron":
        each = ceil(each * neuron_cache_factor(model, split.tp))
    if option.engine == "vllm":
        found = budget(
            model, accelerator, dtype=option.dtype, quantization=option.quantization, tp=split.tp, pp=split.pp
        )
        free = found.cache - GRAPHS
        most = min(batching(accelerator).sequences, max(0, free) // each)
        needs = f"{found.weights / GIB:.1f} GiB of weights, {found.activations / GIB:.1f} of activations"
        less = fewer_sequences(
            model, accelerator, each, dtype=option.dtype, quantization=option.quantization, tp=split.tp, pp=split.pp
        )
        mend = "" if less is None else f"; with max_num_seqs {less.sequences} it fits"
    else:
        weights = model.rank_bytes(option.dtype, option.quantization, tp=split.tp, pp=split.pp)
        usable = UTILIZATION * accelerator.core_memory_gib * GIB
        layer = int(4 * request.prompt * max(model.ffn / split.tp, model.hidden) * BYTES[option.dtype])
        free = int(usable - weights - CONTEXT[split.devices > 1] * GIB - layer)
        most = min(MOST_ROWS, max(0, free) // each)
        needs = f"{weights / GIB:.1f} GiB of weights, {layer / GIB:.1f} of activations"
        mend = ""
    if most >= 1:
        return int(most), None
    lacking = (each - free) / GIB
    return 0, (
        f"a rank's {accelerator.name} has {accelerator.core_memory_gib:.1f} GiB, {lacking:.1f} GiB too few for {needs} "
        f"and {each / GIB:.2f} of cache for one request{mend}"
    )


def _tokens(model: ModelFacts, request: Request) -> tuple[int, int]:
    """Of one sequence in the decoder, and in the encoder."""
    prompt, answer = ceil(request.prompt), ceil(request.answer)
    return (answer, prompt) if model.encoder_decoder else (prompt + answer, 0)
