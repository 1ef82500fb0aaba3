"""Ranks as threads of one process: every (rank, world) in milliseconds.

Sums and gathers are real, only the wires are not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from heavylift_runtime.native.distributed import Group

T = TypeVar("T")


class Meeting:
    """Where the threads of one world lay down what they exchange."""

    def __init__(self, world: int) -> None:
        self.world, self.barrier = world, threading.Barrier(world, timeout=30)
        self.laid: list[Tensor] = [torch.empty(0)] * world


class ThreadGroup:
    """One thread's end of a Meeting."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.world, self._meeting = rank, meeting.world, meeting

    def _exchange(self, tensor: Tensor) -> list[Tensor]:
        self._meeting.laid[self.rank] = tensor.clone()
        self._meeting.barrier.wait()
        every = list(self._meeting.laid)
        self._meeting.barrier.wait()
        return every

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(torch.stack(self._exchange(tensor)).sum(0))

    def all_gather(self, tensor: Tensor) -> Tensor:
        return torch.stack(self._exchange(tensor))

    def broadcast(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(self._exchange(tensor)[0])

    def barrier(self) -> None:
        self._meeting.barrier.wait()

    def close(self) -> None:
        """A thread has nothing to leave."""


def on_ranks(world: int, task: Callable[[Group], T]) -> list[T]:
    """The results of `task` on every rank, in order; a rank's exception is raised."""
    meeting = Meeting(world)

    def run(rank: int) -> T:
        try:
            with torch.inference_mode():
                return task(ThreadGroup(rank, meeting))
        except BaseException:
            meeting.barrier.abort()  # the others would wait for this one
            raise

    with ThreadPoolExecutor(world) as pool:
        futures = [pool.submit(run, rank) for rank in range(world)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return [future.result() for future in futures]
