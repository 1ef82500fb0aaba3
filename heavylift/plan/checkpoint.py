"""What a lock knows of the checkpoint: config.json, the model's sizes, the bytes of its files.

Not how they came to be known (heavylift.weights), nor what the model needs (demand.py).
"""

from __future__ import annotations

from heavylift.errors import InputError
from heavylift.plan.lock import Lock
from heavylift.plan.model import ModelFacts
from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.table import Family

SHARD = 10 * 10**9  # bytes of a checkpoint's file, where nobody has read it: transformers' `max_shard_size` until 4.34


def config_of(lock: Lock) -> dict[str, object]:
    """config.json; raises LoadError where there is none."""
    if lock.model.config is None:
        raise LoadError(f"{lock.model.source} has no config.json; only engine: script can serve it")
    return lock.model.config


def model_of(lock: Lock) -> ModelFacts | None:
    """None for an architecture of which the plan knows nothing."""
    try:
        return ModelFacts.of(config_of(lock), parameters=lock.model.parameters)
    except InputError:
        return None


def weights_bytes(lock: Lock) -> int:
    """Bytes of the weight files alone."""
    weights = lock.model.weights
    if not weights.files:
        return weights.bytes
    return sum(file.size for file in weights.files if file.path.endswith((".safetensors", ".bin")))


def largest_file(lock: Lock) -> int:
    """Bytes; assumed where nobody has read the checkpoint."""
    return max((file.size for file in lock.model.weights.files), default=min(SHARD, lock.model.weights.bytes))


def check_whole(lock: Lock, family: Family | None) -> None:
    """InputError for fewer numbers than its table of weights, which cannot be loaded; more (copies, unused) can."""
    if family is None or lock.model.parameters is None:
        return
    needed = family.parameters(config_of(lock))
    if lock.model.parameters < needed:
        raise InputError(
            f"{lock.model.source} holds {lock.model.parameters} parameters, its config.json describes {needed}: "
            f"the weights are of another model, or files are missing"
        )
