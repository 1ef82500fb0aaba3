"""What one rank of a model holds, for each degree that can split it.

Not the instance that has as much (instance.py), nor the other engines' memory on accelerators (memory/).
"""

from __future__ import annotations

from heavylift.errors import InputError
from heavylift.plan import facts, memory
from heavylift.plan.checkpoint import model_of, weights_bytes
from heavylift.plan.lock import Lock
from heavylift.plan.memory import Need
from heavylift.plan.model import SCHEMES, ModelFacts
from heavylift.plan.validity import engine_faults
from heavylift.plan.validity.neuron import neuron_degrees
from heavylift.spec import ModelSpec
from heavylift_runtime.families.table import Family, shard

DEGREES = (1, 2, 4, 8, 16, 32, 64)


def needs_of(
    spec: ModelSpec, lock: Lock, engine: str, family: Family | None, dtype: str, prompt: int, tokens: int
) -> dict[int, Need]:
    """What one rank holds, for each degree that divides the model. Raises InputError when the given one does not."""
    given, partition = spec.tensor_parallel_degree, lock.model.partition
    if partition is not None:
        if given not in ("auto", partition.tensor_parallel_degree):
            raise InputError(
                f"{lock.model.source} was partitioned for tensor_parallel_degree {partition.tensor_parallel_degree}, "
                f"the model file asks for {given}; partition it for {given}, or leave the degree to the plan"
            )
        given = partition.tensor_parallel_degree
    degrees = _usual_degrees(spec, engine) if given == "auto" else (given,)
    config = lock.model.config or {}  # of a script's model there may be none
    known = model_of(lock) if config else None
    refused: dict[int, list[str]] = {}
    for degree in degrees:
        refused[degree] = [] if known is None else engine_faults(engine, known, degree, spec.quantization)
        if family is not None:
            refused[degree] += family.check(config, degree, spec.pipeline_parallel_degree)
    if all(refused.values()):
        raise InputError(refused[degrees[0]])
    if family is None:
        return {degree: script_need(lock, dtype, degree) for degree in degrees if not refused[degree]}
    element, rows = memory.BYTES_PER_ELEMENT[dtype], spec.serving.batch_size
    model, scheme, drafts = ModelFacts.of(config), SCHEMES[spec.quantization], _drafts(spec, engine)
    return {
        degree: memory.native_need(
            model, _rank_bytes(family, config, degree, element, scheme, drafts), degree, element, rows, prompt, tokens
        )
        for degree in degrees
        if not refused[degree]
    }


def script_need(lock: Lock, dtype: str, ranks: int) -> Need:
    """Of one of so many ranks, where no table of weights says what it holds."""
    element = memory.BYTES_PER_ELEMENT[dtype]
    stored = memory.BYTES_PER_ELEMENT.get(lock.model.dtype or dtype, element)
    return memory.script_need(weights_bytes(lock) * element // stored, ranks)


def _drafts(spec: ModelSpec, engine: str) -> bool:
    """Whether the native engine guesses tokens, with copies of its matrices (heavylift_runtime/native/drafts.py)."""
    length = str(spec.options.get("speculative_length", "0"))
    return engine == "native" and spec.quantization == "none" and length.isdecimal() and int(length) > 0


def _usual_degrees(spec: ModelSpec, engine: str) -> tuple[int, ...]:
    """To try where the file gives none: on Neuron those of its type."""
    if engine != "neuronx":
        return DEGREES
    if spec.instance_type == "auto":
        return tuple(sorted({degree for fact in facts.instances().values() for degree in neuron_degrees(fact)}))
    return neuron_degrees(facts.instances()[spec.instance_type])


def _rank_bytes(
    family: Family, config: dict[str, object], degree: int, element: int, scheme: float | None, drafts: bool
) -> int:
    """Weights of the fullest rank; `scheme`: bytes of a quantized matrix's number; `drafts`: with a copy in 8 bits.

    That copy is of what a decoding step multiplies with: all matrices are more than it, where there is an encoder.
    """
    whole = family.bytes_per_rank(config, degree, element)
    if scheme is None and not drafts:
        return whole
    tied = bool(config.get("tie_word_embeddings", True))  # then the head is the table, which stays as it is
    matrices = [each for each in family.weights(config) if each.matrix and not (tied and each.head)]
    numbers = sum(shard(each, degree - 1, degree).elements for each in matrices)
    return whole - (0 if scheme is None else int(numbers * (element - scheme))) + (numbers if drafts else 0)
