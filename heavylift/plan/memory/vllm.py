"""vLLM's fit check, before a GPU is rented: what is left for the cache when it has measured its own peak at start-up.

Not vLLM's cache itself (ModelFacts.cache_bytes counts a sequence). The identity is vLLM's own, and closes to 0.01 GiB
on published logs: cache = utilization · total - weights - activations - context (docs.vllm.ai, "Conserving memory").
What the activations are differs by version, and is fitted to those logs (tests/golden/vllm-memory).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from heavylift.plan.facts import Accelerator
from heavylift.plan.memory.need import Need
from heavylift.plan.model import BYTES, SCHEMES, ModelFacts

GIB = 2**30
UTILIZATION = 0.9
LARGE_GIB = 70  # from here vLLM serves 1024 sequences by default, but not on an A100
TILE = 256  # MXFP4's kernels pad an expert's width to a multiple of it
GRAPHS = GIB  # CUDA graphs come after the check, between -0.88 and +1.85 GiB in the logs: kept free


class Batching(NamedTuple):
    """vLLM's max_num_seqs and max_num_batched_tokens."""

    sequences: int
    tokens: int


@dataclass(frozen=True)
class Version:
    """How one version spends memory.

    `logits`: bytes in fp32 for each sequence and word, beside one copy in the model's own type. `hidden`: bytes in fp32
    for each token and position of the residual, beside one copy of that; None where the logs show none.
    """

    name: str
    logits: float
    hidden: float | None
    expert_workspace: bool
    context: dict[int, float]
    """Bytes outside torch, by tensor-parallel degree; the largest stands for all beyond."""
    source: str


V11 = Version(
    "0.11",
    36.9,
    None,
    False,
    {1: 0.13 * GIB, 2: 0.55 * GIB},
    "8 settings on H100 (llm-d-planner, Apache-2.0), vLLM 0.11",
)
V19 = Version(
    "0.19",
    12.0,
    4.0,
    True,
    {1: 0.25 * GIB, 2: 2.07 * GIB, 4: 2.15 * GIB},
    "49 settings on H100 (llm-d-planner, Apache-2.0), vLLM 0.19.0",
)
VERSIONS = {version.name: version for version in (V11, V19)}


@dataclass(frozen=True)
class Budget:
    """Bytes of one rank. `cache` is what remains, negative where the model does not fit."""

    total: int
    usable: int
    weights: int
    activations: int
    activations_formula: str
    context: int

    @property
    def cache(self) -> int:
        """For keys and values."""
        return self.usable - self.weights - self.activations - self.context


def batching(accelerator: Accelerator) -> Batching:
    """What vLLM's server takes by default, since 0.8."""
    large = accelerator.memory_gib >= LARGE_GIB and not accelerator.name.startswith("A100")
    return Batching(1024, 8192) if large else Batching(256, 2048)


def budget(
    model: ModelFacts,
    accelerator: Accelerator,
    *,
    dtype: str = "bf16",
    quantization: str = "none",
    tp: int = 1,
    pp: int = 1,
    utilization: float = UTILIZATION,
    batch: Batching | None = None,
    version: Version = V19,
    weights: int | None = None,
) -> Budget:
    """`weights`: bytes on one rank where they were measured; else ModelFacts.rank_bytes."""
    batch = batching(accelerator) if batch is None else batch
    total = int(accelerator.memory_gib * GIB)
    element = BYTES[dtype]
    activations, formula = _activations(model, batch, version, tp, element, workspace=quantization != "mxfp4")
    known = [degree for degree in version.context if degree <= tp]
    return Budget(
        total=total,
        usable=int(utilization * total),
        weights=_weights(model, dtype, quantization, tp, pp) if weights is None else weights,
        activations=activations,
        activations_formula=formula,
        context=int(version.context[max(known)]),
    )


def vllm_need(
    model: ModelFacts, accelerator: Accelerator, *, dtype: str, quantization: str, tp: int, tokens: int
) -> Need:
    """What a rank must have for one sequence of so many tokens at least; what is left is cache as well."""
    found = budget(model, accelerator, dtype=dtype, quantization=quantization, tp=tp)
    return Need(
        weights=found.weights,
        weights_formula=f"{model.parameters} parameters in {dtype}, quantization {quantization}, over {tp}",
        cache=model.cache_bytes(tokens, tp=tp, kv_dtype=dtype),
        cache_formula=f"one sequence of {tokens} tokens; what is left of the memory is cache as well",
        activations=found.activations + GRAPHS,
        activations_formula=f"{found.activations_formula}; + {GRAPHS // GIB} GiB of CUDA graphs",
    )


def sequences(
    model: ModelFacts, found: Budget, tokens: int, *, tp: int = 1, pp: int = 1, kv_dtype: str = "bf16"
) -> int:
    """How many sequences of so many tokens the cache holds at once; at most what vLLM's setting allows."""
    return max(0, found.cache) // model.cache_bytes(tokens, tp=tp, pp=pp, kv_dtype=kv_dtype)


def fewer_sequences(
    model: ModelFacts,
    accelerator: Accelerator,
    cache: int,
    *,
    dtype: str = "bf16",
    quantization: str = "none",
    tp: int = 1,
    pp: int = 1,
) -> Batching | None:
    """The largest max_num_seqs below the default that leaves `cache` bytes: sampling's share shrinks with it.

    None where none does, or the default does already.
    """
    default = batching(accelerator)
    for share in (1, 2, 4, 8, 16, 32):
        batch = Batching(default.sequences // share, default.tokens)
        found = budget(model, accelerator, dtype=dtype, quantization=quantization, tp=tp, pp=pp, batch=batch)
        if found.cache - GRAPHS >= cache:
            return None if share == 1 else batch
    return None


def _weights(model: ModelFacts, dtype: str, quantization: str, tp: int, pp: int) -> int:
    """What a rank holds once it has loaded: its share, the table of rotary positions, MXFP4's padding."""
    found = model.rank_bytes(dtype, quantization, tp=tp, pp=pp)
    if model.architecture.rotary and model.positions is not None:
        found += 2 * model.positions * (model.head_dim if model.latent is None else model.latent.rope)
    each = SCHEMES[quantization]
    if quantization == "mxfp4" and each is not None and model.moe:
        padded = ceil(model.expert_ffn / TILE) * TILE / model.expert_ffn
        found += int(model.counted.experts * each * (padded - 1) / (tp * pp))
    return found


def _activations(
    model: ModelFacts, batch: Batching, version: Version, tp: int, element: float, *, workspace: bool
) -> tuple[int, str]:
    """The larger of sampling (all logits on every rank) and one layer's feed-forward; workspace of experts besides."""
    logits = version.logits + element
    words = f"{logits:g} · {batch.sequences} sequences · {model.vocabulary} words"
    peak = logits * batch.sequences * model.vocabulary
    if version.hidden is not None:
        words += f" + {version.hidden + element:g} · {batch.tokens} tokens · {model.hidden}"
        peak += (version.hidden + element) * batch.tokens * model.hidden
        # gate and up, their product, and copies of the residual
        layer = element * batch.tokens * ((2 + model.gated) * model.ffn / tp + 4 * model.hidden)
        if layer > peak:
            peak, words = layer, f"{element:g} · {batch.tokens} tokens · one layer's feed-forward and residual"
    if model.moe and version.expert_workspace and workspace:
        each = (2 + model.gated) * model.expert_ffn / tp + model.hidden
        peak += element * batch.tokens * model.experts_per_token * each
        words += f" + {element:g} · {batch.tokens} tokens · {model.experts_per_token} experts · {each:g}"
    return int(peak), f"{words}; {version.source}"
