"""The ranks of one model on one machine: sums, gathers and broadcasts of tensors between their processes.

Not a launcher (worker.py starts the processes), and nothing here knows what it carries. Rank and world are passed in.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

MEETING = timedelta(minutes=10)
"""How long ranks wait for each other at the start."""
IDLE = timedelta(days=365)
"""How long a follower waits for the next batch. A rank that dies closes its sockets, and then nobody waits."""


class Group(Protocol):
    """The ranks that hold one model together."""

    rank: int
    world: int

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place, the same bits on each."""

    def all_gather(self, tensor: Tensor) -> Tensor:
        """(world, *shape): every rank's tensor, in order of rank."""

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor, in place."""

    def barrier(self) -> None:
        """Wait until every rank is here."""

    def close(self) -> None:
        """Leave the group."""


class Alone:
    """A world of one: no processes, no sockets."""

    rank = 0
    world = 1

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        return tensor.unsqueeze(0)

    def broadcast(self, tensor: Tensor) -> Tensor:
        return tensor

    def barrier(self) -> None:
        """There is nobody to wait for."""

    def close(self) -> None:
        """There is nothing to leave."""


class Gloo:
    """Processes of one machine over torch.distributed's gloo, on the loopback interface.

    Calls the process group itself: the module-level functions of torch.distributed cost more than a small sum does.
    """

    def __init__(self, rank: int, world: int, rendezvous: str) -> None:
        """Waits for all ranks at `rendezvous`, an init_method such as file:///tmp/x/rendezvous (a fresh file)."""
        self.rank, self.world = rank, world
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world, timeout=MEETING)
        group = dist.new_group(timeout=IDLE)
        assert isinstance(group, dist.ProcessGroup)
        self._group = group

    def all_reduce(self, tensor: Tensor) -> Tensor:
        self._group.allreduce(tensor).wait()
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        gathered = torch.empty((self.world, *tensor.shape), dtype=tensor.dtype)
        self._group.allgather([list(gathered.unbind(0))], [tensor]).wait()
        return gathered

    def broadcast(self, tensor: Tensor) -> Tensor:
        self._group.broadcast(tensor, 0).wait()
        return tensor

    def barrier(self) -> None:
        self._group.barrier().wait()

    def close(self) -> None:
        dist.destroy_process_group()


def _loopback() -> str:
    """The name of this machine's loopback interface; gloo would otherwise listen where the host name points to."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
