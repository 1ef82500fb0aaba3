"""Ranks with a GPU each: what lies on a GPU goes from GPU to GPU over NCCL, what lies in the host's memory as before.

Not a world of its own: it goes beside a group of the hosts, which the ranks met in. Sums are on the stream that
computes, so that a CUDA graph records them with the products around them. Written, and run over gloo only.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from heavylift_runtime.native.distributed import IDLE, Group


class Beside:
    """Two ways between the same ranks, chosen by where a tensor lies."""

    def __init__(self, host: Group, wired: dist.ProcessGroup, kind: str) -> None:
        """`wired`: for tensors on devices of `kind`."""
        self.rank, self.world, self._host, self._wired, self._kind = host.rank, host.world, host, wired, kind

    def _here(self, tensor: Tensor) -> bool:
        return tensor.device.type == self._kind

    def all_reduce(self, tensor: Tensor) -> Tensor:
        if not self._here(tensor):
            return self._host.all_reduce(tensor)
        dist.all_reduce(tensor, group=self._wired)
        return tensor

    def all_gather(self, tensor: Tensor, out: Tensor | None = None) -> Tensor:
        if not self._here(tensor):
            return self._host.all_gather(tensor, out)
        gathered = tensor.new_empty(self.world * len(tensor), *tensor.shape[1:])
        dist.all_gather_single(gathered, tensor.contiguous(), group=self._wired)
        every = gathered.view(self.world, *tensor.shape)
        return every if out is None else out.copy_(every)

    def broadcast(self, tensor: Tensor) -> Tensor:
        if not self._here(tensor):
            return self._host.broadcast(tensor)
        dist.broadcast(tensor, group=self._wired, group_src=0)
        return tensor

    def send(self, tensor: Tensor, to: int) -> None:
        if not self._here(tensor):
            return self._host.send(tensor, to)
        dist.send(tensor, group=self._wired, group_dst=to)

    def receive(self, tensor: Tensor, sender: int) -> Tensor:
        if not self._here(tensor):
            return self._host.receive(tensor, sender)
        dist.recv(tensor, group=self._wired, group_src=sender)
        return tensor

    def barrier(self) -> None:
        self._host.barrier()

    def close(self) -> None:
        self._host.close()


def beside(host: Group, everybody: int, device: torch.device, backend: str = "nccl") -> Group:
    """`host` itself on processors; else with the GPUs' way beside it. Called on all ranks at once.

    Of `everybody`, each so many neighbours as `host` has are a group.
    """
    if device.type == "cpu" and backend == "nccl":
        return host
    size = host.world
    groups = [
        dist.new_group(list(range(first, first + size)), timeout=IDLE, backend=backend)
        for first in range(0, everybody, size)
    ]
    wired = groups[dist.get_rank() // size]
    assert isinstance(wired, dist.ProcessGroup)
    found = Beside(host, wired, device.type)
    found.all_reduce(torch.zeros(1, device=device))  # NCCL connects at its first sum, which no graph may record
    return found
