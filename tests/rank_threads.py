"""Ranks as threads of one process: every (rank, world) in milliseconds.

Sums and gathers are real, only the wires are not.
"""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from heavylift_runtime.families.stages import Stage
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.mesh import Mesh

T = TypeVar("T")


class Meeting:
    """Where the threads of one world lay down what they exchange."""

    def __init__(self, world: int) -> None:
        self.world, self.barrier = world, threading.Barrier(world, timeout=30)
        self.laid: list[Tensor] = [torch.empty(0)] * world
        self.sent: dict[tuple[int, int], queue.Queue[Tensor]] = defaultdict(queue.Queue)


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

    def all_gather(self, tensor: Tensor, out: Tensor | None = None) -> Tensor:
        every = torch.stack(self._exchange(tensor))
        return every if out is None else out.copy_(every)

    def broadcast(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(self._exchange(tensor)[0])

    def send(self, tensor: Tensor, to: int) -> None:
        self._meeting.sent[self.rank, to].put(tensor.clone())

    def receive(self, tensor: Tensor, sender: int) -> Tensor:
        came = self._meeting.sent[sender, self.rank].get(timeout=30)
        assert (came.shape, came.dtype) == (tensor.shape, tensor.dtype)
        return tensor.copy_(came)

    def barrier(self) -> None:
        self._meeting.barrier.wait()

    def close(self) -> None:
        """A thread has nothing to leave."""


def on_ranks(world: int, task: Callable[[Group], T]) -> list[T]:
    """The results of `task` on every rank, in order; a rank's exception is raised."""
    return on_mesh(world, 1, lambda mesh: task(mesh.group))


def on_mesh(tensor: int, pipeline: int, task: Callable[[Mesh], T]) -> list[T]:
    """The results of `task` on every rank of a pipeline, in order; a rank's exception is raised."""
    world = tensor * pipeline
    everyone, parts = Meeting(world), [Meeting(tensor) for _ in range(pipeline)]

    def run(rank: int) -> T:
        group = ThreadGroup(rank % tensor, parts[rank // tensor])
        mesh = Mesh(ThreadGroup(rank, everyone), group, Stage.holding(rank, tensor, pipeline))
        try:
            with torch.inference_mode():
                return task(mesh)
        except BaseException:
            for meeting in (everyone, *parts):
                meeting.barrier.abort()  # the others would wait for this one
            raise

    with ThreadPoolExecutor(world) as pool:
        futures = [pool.submit(run, rank) for rank in range(world)]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return [future.result() for future in futures]
