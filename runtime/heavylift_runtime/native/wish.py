"""The engine's own keys, `option.…` in serving.properties: what a GPU is asked for, and guesses on a processor.

Not the options that all engines have (options.py). Those with LMI's names mean what they mean for vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from heavylift_runtime.engines.cores import SMALL
from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.drafts import MOST
from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.kernels.library import said
from heavylift_runtime.native.memory import SHARE
from heavylift_runtime.native.place import HOST

EXACT = ("none", "int8", "dynamic_int8")
"""What our kernels multiply with, for which a row's numbers are the same bits whatever rows go beside it."""


@dataclass(frozen=True)
class Wish:
    """How a rank uses its device."""

    share: float = SHARE
    """gpu_memory_utilization: of the memory that is free when the weights are loaded, for the cache."""
    eager: bool = False
    """enforce_eager: no CUDA graphs."""
    compiles: bool = False
    """torch_compile: passes of one token for each row are compiled, which takes a while for each of their sizes."""
    drafted: int | None = None
    """speculative_length: tokens that are guessed before a pass at most (drafts.py); None: as many as pay, if any."""

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
        drafted = given.get("speculative_length")
        if drafted is not None and not (drafted.isascii() and drafted.isdigit() and int(drafted) < MOST):
            faults.append(
                f"option.speculative_length must be a whole number from 0, which is none, to {MOST - 1}: "
                f"got {drafted!r}"
            )
        if faults or share is None:
            raise LoadError("\n".join(faults))
        eager, compiles = (text.lower() == "true" for text in flags)
        return cls(share, eager, compiles, None if drafted is None else int(drafted))

    def check(self, device: torch.device) -> None:
        """LoadError where the device has nothing of the kind."""
        if self.compiles and device == HOST:
            raise LoadError(
                "'torch_compile' is for GPUs: on a processor the engine's own kernels are quicker; leave it out"
            )
        if self.drafted and device != HOST:
            raise LoadError(
                "'speculative_length' is for processors, where several tokens take hardly more time than one; "
                "leave it out"
            )

    def guesses(
        self, dtype: torch.dtype, quantize: str, held: int, *, invariant: bool, stages: int, steady: bool = True
    ) -> int:
        """Tokens to guess before a pass on a processor, at most; LoadError where some are asked for and cannot be.

        `held`: bytes of weights on a rank; `steady`: all tokens read the same ones. Not asked for, there are guesses
        with steady weights that no cache holds.
        """
        if self.drafted == 0:
            return 0
        faults = []
        if dtype not in kernels.TYPES or not kernels.usable(torch.empty(0, dtype=dtype)):
            faults.append(
                "'speculative_length' needs the engine's own kernels and 'dtype' fp32 or bf16: "
                f"the kernels are {said()}, 'dtype' is {str(dtype).removeprefix('torch.')}"
            )
        if quantize not in EXACT:
            faults.append(f"'speculative_length' goes with 'quantize' {', '.join(EXACT)}: got {quantize!r}")
        if invariant:
            faults.append("'speculative_length' does not go with 'batch_invariant', which fixes the rows of a pass")
        if stages > 1:
            faults.append(f"'speculative_length' does not go with 'pipeline_parallel_degree' above 1: got {stages}")
        if self.drafted is None:
            return MOST - 1 if not faults and steady and held >= SMALL else 0
        if faults:
            raise LoadError("\n".join([*faults, "leave 'speculative_length' out, or mend these"]))
        return self.drafted

    def copied(self, dtype: torch.dtype, quantize: str) -> bool:
        """Whether the model guesses, too: by itself where its weights are much longer than their copies in 8 bits."""
        return quantize == "none" and (self.drafted is not None or dtype == torch.float32)


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    return share if 0 < share <= 1 else None
