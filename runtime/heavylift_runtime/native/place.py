"""Where a rank computes: on the processor, or on a GPU of its own. What lies where, and how it gets there.

Not what is computed. On a GPU, tensors that the model's files make while they run (positions, masks, tables) are made
there because its device is PyTorch's default one inside `within`; everything else stays in the host's memory. The GPU's
part was written and not run.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.stages import Stage
from heavylift_runtime.native.loader import Weights
from heavylift_runtime.native.quantize.forms import Matrix, each

HOST = torch.device("cpu")
FLOAT8 = (8, 9)
"""The first compute capability with products of 8-bit floats: Ada, then Hopper and Blackwell."""


def device_of(rank: int, ranks: int, copies: int) -> torch.device:
    """A rank's own GPU where this machine has any, else the processor; LoadError where there are fewer than ranks."""
    if not torch.cuda.is_available():
        return HOST
    there = torch.cuda.device_count()
    if ranks > there or copies > 1:
        raise LoadError(
            f"{copies} copies of {ranks} ranks on a machine of {there} GPUs: each rank has a GPU of its own and one "
            f"copy is served; set 'tensor_parallel_degree' times 'pipeline_parallel_degree' to at most {there}, "
            "'maxWorkers' to 1, or CUDA_VISIBLE_DEVICES to nothing for the processor"
        )
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def check_float8(device: torch.device) -> None:
    """LoadError where the device has no products of 8-bit floats."""
    has = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if has is None or has < FLOAT8:
        here = "a processor" if has is None else f"one of {has[0]}.{has[1]}"
        raise LoadError(
            f"'quantize' is 'fp8', which needs a GPU of compute capability {FLOAT8[0]}.{FLOAT8[1]} or more (Ada, "
            f"Hopper, Blackwell); here is {here}; set 'int8'"
        )


def within(device: torch.device) -> AbstractContextManager[object]:
    """New tensors are made on the device; on the processor they are in any case, and saying so would cost time."""
    return nullcontext() if device.type == "cpu" else device


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A host's tensor on the device, from locked pages, so that nobody waits for the copy."""
    if device.type == "cpu":
        return tensor
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


class Placed:
    """Weights that are read and rounded in the host's memory, one at a time, and handed out on a device."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        self._weights, self.device = weights, device

    @property
    def stage(self) -> Stage:
        return self._weights.stage

    @property
    def dtype(self) -> torch.dtype:
        return self._weights.dtype

    @property
    def total(self) -> int:
        return self._weights.total

    def has(self, name: str) -> bool:
        return self._weights.has(name)

    def take(self, name: str) -> Tensor:
        with HOST:
            return self._weights.take(name).to(self.device)

    def matrix(self, name: str) -> Matrix:
        with HOST:
            matrix = self._weights.matrix(name)
        return each(matrix, lambda part: part.to(self.device))
