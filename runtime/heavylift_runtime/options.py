"""serving.properties and OPTION_* as one validated value. No torch, no AWS: the core validates with it, too."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What the container believes."""

    engine: str = "native"
    model_id: str | None = None
    dtype: str = "auto"
    tensor_parallel_degree: int = 1
    batch_size: int = 1
