"""The ledger of one instance type: all rows for all copies of a model on it. Not what one copy asks: need.py.

On a GPU the identity is vLLM's fit check: usable memory - weights per rank - activations - cache - context
(docs.vllm.ai, "Conserving memory"); what is assumed until an endpoint has been measured says so in its row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heavylift.plan.facts import InstanceFact
from heavylift.plan.memory.need import GIB, MIB, Need
from heavylift.plan.parts import LedgerRow, Memory, Where

HOST_SYSTEM = GIB  # the operating system, SageMaker's agent, the container's base
HOST_PROCESS = GIB // 4  # a Python process with torch on the CPU: 254 MB measured (benchmarks/native_memory.py)
MARGIN = 0.1  # of what was measured: the formula's largest error
HOST_GPU_PROCESS = 3 * GIB  # a CUDA context's host side, pinned buffers
ACCELERATOR_CONTEXT = int(0.25 * GIB)  # one rank, as vLLM 0.19 logs it; with more, NCCL's buffers as well
ACCELERATOR_CONTEXT_SHARED = int(2.15 * GIB)
USABLE_SHARE = 0.9  # of an accelerator's memory, vLLM's default of gpu_memory_utilization
RANK_SHARED = 2 * MIB  # the native engine's slots for small sums
NCCL_SHARED = GIB  # what NVIDIA asks for (NCCL user guide, "Docker"): --shm-size=1g
SHARED_SHARE = 0.5  # of the host's memory: Linux's default size of a tmpfs
LARGEST_VOLUME = 512 * 10**9  # bytes: SageMaker's largest volume


@dataclass(frozen=True)
class Placing:
    """How copies are laid out: `workers` copies of `degree` shares each, `processes` for a copy.

    `on_disk` bytes of the model come to the disk; `loading` is what the host holds meanwhile on an accelerated type.
    """

    degree: int
    processes: int
    workers: int
    on_disk: int
    loading: int
    loading_formula: str


def ledger(fact: InstanceFact, need: Need, placing: Placing) -> Memory:
    """All rows on one instance, and what there is."""
    accelerator = 0.0 if fact.accelerator is None else fact.accelerator.core_memory_gib * GIB
    return Memory(
        rows=tuple(_rows(fact, need, placing)),
        host_available=int(fact.memory_gib * GIB),
        accelerator_available=int(accelerator * USABLE_SHARE),
        disk_available=int(fact.nvme_gb * 10**9) if fact.nvme_gb else LARGEST_VOLUME,
        shm_available=int(SHARED_SHARE * fact.memory_gib * GIB),
    )


def _rows(fact: InstanceFact, need: Need, placing: Placing) -> Iterator[LedgerRow]:
    where: Where = "host" if fact.hardware == "cpu" else "accelerator"
    shares = placing.degree * placing.workers if where == "host" else 1
    times = f"{shares} · " if shares > 1 else ""
    parts = (
        ("weights", need.weights, need.weights_formula),
        ("loading", need.loading if where == "host" else 0, need.loading_formula),
        ("cache", need.cache, need.cache_formula),
        ("activations", need.activations, need.activations_formula),
    )
    for what, each, formula in parts:
        if each or what != "loading":
            yield LedgerRow(where, what, shares * each, f"{times}{each} ({formula})")
    ranks = placing.processes * placing.workers
    each = HOST_PROCESS if where == "host" else HOST_GPU_PROCESS
    how = "measured" if where == "host" else "assumed"
    if where == "accelerator":
        context = ACCELERATOR_CONTEXT if placing.degree == 1 else ACCELERATOR_CONTEXT_SHARED
        yield LedgerRow(where, "context", context, "driver, libraries and communication, assumed")
        yield LedgerRow("host", "loading", placing.workers * placing.loading, placing.loading_formula)
    yield LedgerRow("host", "processes", (1 + ranks) * each, f"(1 server + {ranks} ranks) · {each / GIB:g} GiB, {how}")
    if where == "host":
        measured = shares * sum(part for _, part, _ in parts) + (1 + ranks) * each
        yield LedgerRow("host", "margin", int(MARGIN * measured), f"{MARGIN} of the above, the formula's largest error")
    yield LedgerRow("host", "system", HOST_SYSTEM, f"{HOST_SYSTEM / GIB:g} GiB, assumed")
    if placing.on_disk:
        yield LedgerRow("disk", "model", placing.on_disk, "all files of the model, uncompressed")
    if placing.degree > 1 and fact.hardware != "neuron":  # there one process drives all cores
        yield _shared(where, placing)


def _shared(where: Where, placing: Placing) -> LedgerRow:
    if where == "host":
        each = placing.degree * RANK_SHARED
        formula = f"{placing.workers} copies · {placing.degree} ranks · {RANK_SHARED // MIB} MiB of slots"
        return LedgerRow("shm", "small sums", placing.workers * each, formula)
    return LedgerRow("shm", "NCCL", NCCL_SHARED, "NVIDIA's recommendation for ranks of one machine")
