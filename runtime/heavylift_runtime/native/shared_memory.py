"""Sums and gathers through shared memory: 5 µs where gloo takes 500, and a decode step has three per layer.

Not for other machines, nor for what is large while a model loads (gloo takes that), nor for processors that reorder
stores: a rank writes its data and then its number, and x86 is what promises that others see them in this order (Intel
SDM volume 3A, 8.2).
"""

from __future__ import annotations

import mmap
import os
import platform
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

from heavylift_runtime.native.alarm import Alarm, Interrupted
from heavylift_runtime.native.distributed import Alone, Gloo, Group

FOLDER = "/dev/shm"
SLOT = 1 << 20
"""Bytes that one rank can lay down at once."""
LINE = 64
"""Bytes between two ranks' numbers, so that they share no cache line."""
EXCHANGED, SENT, TAKEN = 0, 1, 2
"""A rank's numbers: its exchanges with all, the parts of what it sent, the parts that it took; more are alarm.py's."""
SPINS = 2000
"""Looks at the others' numbers before the processor is offered to another process (some 0.2 ms)."""
PATIENCE = 0.1
"""Seconds between two looks at whether the others still live, and before a rank begins to sleep while it waits."""


def join(rank: int, world: int, rendezvous: str) -> Group:
    """The quickest group that this machine has for so many ranks; a world of one needs no rendezvous."""
    return Alone() if world == 1 else through_memory(Gloo(rank, world, rendezvous))


def through_memory(gloo: Gloo, whole: SharedMemory | None = None, first: int = 0) -> Gloo | SharedMemory:
    """The same ranks with the shorter way, or `gloo` itself where there is none. Called on all ranks at once.

    `whole`: the group of which these are the ranks from `first` on.
    """
    if platform.machine() != "x86_64" or not os.path.isdir(FOLDER):
        return gloo
    size = gloo.world * (LINE + 3 * SLOT)
    file = _open_together(gloo, size)
    return gloo if file is None else SharedMemory(gloo, file, size, None if whole is None else whole.alarm, first)


def _open_together(gloo: Gloo, size: int) -> int | None:
    """A file without a name that all ranks have open; None on each of them where rank 0 finds no room for it."""
    name, file, path = torch.zeros(64, dtype=torch.uint8), -1, ""
    if gloo.rank == 0:
        try:
            file, path = tempfile.mkstemp(prefix="heavylift-", dir=FOLDER)
            os.posix_fallocate(file, 0, size)  # a full /dev/shm would else be a SIGBUS at the first write
            name[: len(path)] = torch.tensor(list(path.encode()), dtype=torch.uint8)
        except OSError:
            if path:
                os.close(file)
                os.unlink(path)
    gloo.broadcast(name)
    path = bytes(name.tolist()).rstrip(b"\0").decode()
    if not path:
        return None
    if gloo.rank > 0:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        gloo.barrier()
    finally:  # also where another rank has died: nobody else would do it
        if gloo.rank == 0:
            os.unlink(path)
    return file


class SharedMemory:
    """A group whose exchanges go through memory; a loading model's, and the waiting between batches, through gloo.

    Two slots for each rank, used in turn: a rank that writes a slot again has seen every other rank's next number,
    which each gave only after it had read the slot. A third one holds what a rank sends to one other, which counts what
    it has taken out. A rank holds a lock on its own byte of the file while it lives.
    """

    def __init__(self, gloo: Gloo, file: int, size: int, alarm: Alarm | None = None, first: int = 0) -> None:
        """`file`: an open file of `size` bytes that all ranks share; `alarm`: of a group in which rank 0 is `first`."""
        self.rank, self.world, self._gloo, self._file = gloo.rank, gloo.world, gloo, file
        os.lockf(self._at(self.rank), os.F_LOCK, 1)
        memory = mmap.mmap(file, size)
        self._numbers = memoryview(memory).cast("q")
        slots = torch.frombuffer(memory, dtype=torch.uint8)[self.world * LINE :].view(3, self.world, SLOT)
        self._slots, self._boxes = slots[:2], slots[2]
        self._own = self.rank * LINE // 8
        self.alarm = Alarm(self._numbers, LINE // 8, self.rank, self.world, self._come) if alarm is None else alarm
        self._first = first
        self._others = [rank for rank in range(self.world) if rank != self.rank]
        self._number = 0
        self._views: dict[tuple[torch.Size, torch.dtype], list[tuple[Tensor, Tensor]]] = {}
        gloo.barrier()

    def _at(self, offset: int) -> int:
        os.lseek(self._file, offset, os.SEEK_SET)
        return self._file

    def all_reduce(self, tensor: Tensor) -> Tensor:
        if tensor.nbytes > SLOT:
            for part in torch.split(tensor.view(-1), SLOT // tensor.itemsize):
                self.all_reduce(part)
            return tensor
        every = self._exchange(tensor)
        if self.world == 2:
            return torch.add(every[0], every[1], out=tensor)
        return torch.sum(every, 0, out=tensor)

    def all_gather(self, tensor: Tensor, out: Tensor | None = None) -> Tensor:
        if tensor.nbytes > SLOT:
            return self._in_parts(tensor) if out is None else self._gloo.all_gather(tensor, out)
        every = self._exchange(tensor)
        return every.clone() if out is None else out.copy_(every)

    def broadcast(self, tensor: Tensor) -> Tensor:
        return self._gloo.broadcast(tensor)

    def send(self, tensor: Tensor, to: int) -> None:
        for part in _parts(tensor):
            sent = self._numbers[self._own + SENT]
            self._wait(to, TAKEN, sent)  # it has taken what was there
            self._boxes[self.rank, : len(part)].copy_(part)
            self._numbers[self._own + SENT] = sent + 1

    def receive(self, tensor: Tensor, sender: int) -> Tensor:
        for part in _parts(tensor):
            taken = self._numbers[self._own + TAKEN]
            self._wait(sender, SENT, taken + 1)
            part.copy_(self._boxes[sender, : len(part)])
            self._numbers[self._own + TAKEN] = taken + 1
        return tensor

    def barrier(self) -> None:
        self._gloo.barrier()

    def begin_again(self) -> None:
        """After an alarm: nothing was ever exchanged. All ranks do it before one exchanges anything again."""
        self._number = 0
        for number in (EXCHANGED, SENT, TAKEN):
            self._numbers[self._own + number] = 0

    def close(self) -> None:
        os.close(self._file)
        self._gloo.close()

    def _in_parts(self, tensor: Tensor) -> Tensor:
        every = torch.empty((self.world, *tensor.shape), dtype=tensor.dtype)
        size = SLOT // tensor.itemsize
        for out, part in zip(
            torch.split(every.view(self.world, -1), size, 1), torch.split(tensor.reshape(-1), size), strict=True
        ):
            out.copy_(self._exchange(part))
        return every

    def _exchange(self, tensor: Tensor) -> Tensor:
        """(world, *shape): what every rank laid down; valid until the exchange after the next."""
        self._number += 1
        mine, every = self._views_of(tensor)[self._number & 1]
        mine.copy_(tensor)
        self._numbers[self._own] = self._number
        for other in self._others:
            self._wait(other, EXCHANGED, self._number)
        return every

    def _views_of(self, tensor: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each slot, this rank's place and all places, in the tensor's shape; made once for each shape."""
        key = tensor.shape, tensor.dtype
        if key not in self._views:
            if len(self._views) > 256:
                self._views.clear()
            places = [
                slot[:, : tensor.nbytes].view(tensor.dtype).view(self.world, *tensor.shape) for slot in self._slots
            ]
            self._views[key] = [(place[self.rank], place) for place in places]
        return self._views[key]

    def _wait(self, rank: int, counter: int, number: int) -> None:
        """Until a rank's counter has come as far; RuntimeError when it died, Interrupted when it cannot go on."""
        numbers, place = self._numbers, rank * LINE // 8 + counter
        for _ in range(SPINS):
            if numbers[place] >= number:
                return
        look = time.monotonic() + PATIENCE
        pause: Callable[[], None] = os.sched_yield
        while numbers[place] < number:
            # what it counted before it raised the alarm is seen by whoever sees the alarm
            if self.alarm.raised_by(self._first + rank) and numbers[place] < number:
                raise Interrupted(f"rank {self._first + rank} cannot go on")
            pause()
            if time.monotonic() > look:
                if self._is_dead(rank) and numbers[place] < number:
                    raise RuntimeError(f"rank {rank} is dead")
                look, pause = time.monotonic() + PATIENCE, lambda: time.sleep(0.0005)

    def _come(self, rank: int, counter: int, number: int) -> None:
        """Until a rank's counter has come as far, whatever is the alarm; RuntimeError when it died."""
        place = rank * LINE // 8 + counter
        while self._numbers[place] < number:
            if self._is_dead(rank) and self._numbers[place] < number:
                raise RuntimeError(f"rank {rank} is dead")
            time.sleep(0.0005)

    def _is_dead(self, rank: int) -> bool:
        try:
            os.lockf(self._at(rank), os.F_TEST, 1)
        except OSError:  # held, so its owner lives
            return False
        return True


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The bytes of a contiguous tensor, in pieces of at most a slot."""
    return torch.split(tensor.view(-1).view(torch.uint8), SLOT)
