"""The ranks of one model on one machine: sums, gathers, broadcasts and messages of tensors between their processes.

Not a launcher (worker.py starts the processes), and nothing here knows what it carries. Rank and world are passed in.
"""

from __future__ import annotations

import os
import socket
from copy import copy
from datetime import timedelta
from typing import Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor

MEETING = timedelta(minutes=10)
"""How long ranks wait for each other at the start."""
IDLE = timedelta(days=365)
"""How long a follower waits for the next batch. A rank that dies closes its sockets, and then nobody waits."""


PART = 256 * 1024
"""Numbers of each rank that are held at once where they are added up one after the other."""


class Group(Protocol):
    """The ranks that hold one model together."""

    rank: int
    world: int

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place, the same bits on each."""

    def all_gather(self, tensor: Tensor, out: Tensor | None = None) -> Tensor:
        """(world, *shape): every rank's tensor, in order of rank; in `out`, where that is given."""

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor, in place."""

    def send(self, tensor: Tensor, to: int) -> None:
        """Hands a tensor to a rank, always the same one; returns when it may be overwritten."""

    def receive(self, tensor: Tensor, sender: int) -> Tensor:
        """The next tensor that a rank sends to this one, in place."""

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

    def all_gather(self, tensor: Tensor, out: Tensor | None = None) -> Tensor:
        return tensor.unsqueeze(0) if out is None else out.copy_(tensor)

    def broadcast(self, tensor: Tensor) -> Tensor:
        return tensor

    def send(self, tensor: Tensor, to: int) -> None:
        raise AssertionError("there is nobody to send to")

    def receive(self, tensor: Tensor, sender: int) -> Tensor:
        raise AssertionError("there is nobody to receive from")

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
        backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"  # whatever each tensor is on
        dist.init_process_group(backends, init_method=rendezvous, rank=rank, world_size=world, timeout=MEETING)
        self._group = _new_group(range(world))

    def divided(self, size: int) -> Gloo:
        """The neighbours among which this rank is, `size` of them; called on all ranks at once."""
        groups = [_new_group(range(first, first + size)) for first in range(0, self.world, size)]
        part = copy(self)
        part.rank, part.world, part._group = self.rank % size, size, groups[self.rank // size]
        return part

    def all_reduce(self, tensor: Tensor) -> Tensor:
        if self.world == 2 or tensor.is_cuda or not tensor.is_floating_point():
            self._group.allreduce(tensor).wait()
            return tensor
        # gloo begins to add with another rank in each part of a tensor: a row's sum would depend on the rows beside it
        for part in torch.split(tensor.view(-1), PART):
            first, *others = self.all_gather(part)
            part.copy_(first)
            for other in others:
                part.add_(other)
        return tensor

    def all_gather(self, tensor: Tensor, out: Tensor | None = None) -> Tensor:
        gathered = torch.empty((self.world, *tensor.shape), dtype=tensor.dtype) if out is None else out
        self._group.allgather([list(gathered.unbind(0))], [tensor]).wait()
        return gathered

    def broadcast(self, tensor: Tensor) -> Tensor:
        self._group.broadcast(tensor, 0).wait()
        return tensor

    def send(self, tensor: Tensor, to: int) -> None:
        self._group.send([tensor], to, 0).wait()

    def receive(self, tensor: Tensor, sender: int) -> Tensor:
        self._group.recv([tensor], sender, 0).wait()
        return tensor

    def barrier(self) -> None:
        self._group.barrier().wait()

    def close(self) -> None:
        """Waits for its own threads, never for another rank: whoever has left before, or died, is no fault here.

        Its threads end with the last reference to it. One of them that wanted a tensor's Python object while the
        interpreter ends would be ended right there, which C++ answers with an abort
        (https://github.com/pytorch/pytorch/issues/190489).
        """
        if dist.is_initialized():  # a part of a group goes with the whole
            dist.destroy_process_group()
        self.__dict__.pop("_group", None)


def _new_group(ranks: range) -> dist.ProcessGroup:
    """Called on all ranks; only those that are in it may use it."""
    return cast(dist.ProcessGroup, dist.new_group(list(ranks), timeout=IDLE))


def _loopback() -> str:
    """The name of this machine's loopback interface; gloo would otherwise listen where the host name points to."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
