"""What a model's options ask of a GPU: the engine's own keys, `option.…` in serving.properties.

Not the options that all engines have (options.py). The first two have LMI's names, and mean what they mean for vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.memory import SHARE
from heavylift_runtime.native.place import HOST


@dataclass(frozen=True)
class Wish:
    """How a rank uses its device."""

    share: float = SHARE
    """gpu_memory_utilization: of the memory that is free when the weights are loaded, for the cache."""
    eager: bool = False
    """enforce_eager: no CUDA graphs."""
    compiles: bool = False
    """torch_compile: passes of one token for each row are compiled, which takes a while for each of their sizes."""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Wish:
        """From keys and their texts, others ignored; LoadError with every fault at once."""
        faults = []
        flags = [given.get(name, "false") for name in ("enforce_eager", "torch_compile")]
        for name, text in zip(("enforce_eager", "torch_compile"), flags, strict=True):
            if text.lower() not in ("true", "false"):  # AWS's samples write True
                faults.append(f"option.{name} must be 'true' or 'false': got {text!r}")
        share = _share(given.get("gpu_memory_utilization", str(SHARE)))
        if share is None:
            said = given["gpu_memory_utilization"]
            faults.append(f"option.gpu_memory_utilization must be above 0 and at most 1: got {said!r}")
        if faults or share is None:
            raise LoadError("\n".join(faults))
        return cls(share, *(text.lower() == "true" for text in flags))

    def check(self, device: torch.device) -> None:
        """LoadError where the device has nothing of the kind."""
        if self.compiles and device == HOST:
            raise LoadError(
                "'torch_compile' is for GPUs: on a processor the engine's own kernels are quicker; leave it out"
            )


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    return share if 0 < share <= 1 else None
