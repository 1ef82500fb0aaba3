"""The parallel loader: a rank's own part of every weight of its stage, read in ranges and cast while it is read.

Not a model, and it knows no architecture: families/ says what is split how, native/architectures/ takes what it needs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from heavylift_runtime.engines.cores import cores
from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.stages import Stage
from heavylift_runtime.native import heap
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.gathering import Gathering
from heavylift_runtime.native.lots import shared
from heavylift_runtime.native.quantize.forms import Matrix
from heavylift_runtime.native.quantize.stored import PACKINGS, form_of, outputs_first, rounded
from heavylift_runtime.native.reading import DTYPES, Buffer, Reading, Task, read_run, runs
from heavylift_runtime.native.shelves import Shelves

__all__ = ["DTYPES", "Loader", "Weights", "outputs_first"]

AHEAD = 64 * 1024 * 1024
"""Bytes of weights that may be on their way before they are asked for."""
FEW, TENTH = 8 * 1024 * 1024, 0.1
"""Bytes of all ranks' shelves together, and of what is on its way to be rounded: so many, or this share of what stays
of a rank's part if that is more; a shelf is no more than `AHEAD`, and what is on its way neither."""
ROUNDED = {"int4": 0.5}
"""Bytes of a number that was rounded, where it is not one."""
LEAST = 1024
"""Bytes of one of them."""


class Weights(Protocol):
    """What a stage's forward pass is built from."""

    @property
    def stage(self) -> Stage:
        """The stage."""

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""

    @property
    def device(self) -> torch.device:
        """Where."""

    @property
    def total(self) -> int:
        """Bytes of this rank's part of all of them, before they are rounded."""

    def has(self, name: str) -> bool:
        """Whether there is a weight of this name; if not, its stand-in is to be used."""

    def take(self, name: str) -> Tensor:
        """This rank's part of the weight; each is handed out once."""

    def matrix(self, name: str) -> Matrix:
        """The same of a Linear's weight, always (out, in), and quantized where that is wanted."""


class Loader:
    """Hands out each weight of a checkpoint once, already cut to this rank.

    A part along dimension 0 is one range of the file, one along dimension 1 a piece of every row. From a disk
    exactly the part is read, straight to where it stays, and the kernel is told what follows. From S3 and the hub,
    where so many requests would take longer, the ranks of a group read long ranges for each other (gathering.py);
    without a group, or where its ranks cannot see each other's memory, each reads whole rows. Peak memory: what was
    handed out, plus one tensor from a local folder; from elsewhere the tensors on their way (64 MiB and one
    tensor), and a tenth of the rank's part for all ranks' shelves, or 8 MiB; plus for each reader 8 MiB where
    numbers are cast or cut.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        rank: int,
        world: int,
        dtype: torch.dtype,
        report: Callable[[str], None] = lambda line: None,
        quantize: str = "none",
        group: Group | None = None,
    ) -> None:
        """Proves the checkpoint against its family's table first: LoadError names every tensor that does not fit.

        `rank`, `world`: the part of the checkpoint's stage, and how many there are.
        `quantize`: what plain matrices become on their way; how stored ones lie is the checkpoint's own affair.
        `group`: the stage's ranks, each of which loads the same at the same time, out of the same files (alike.py).
        """
        if checkpoint.partition is not None:
            checkpoint.partition.check_dtype(checkpoint.source.place, dtype)
        checkpoint.check_quantize(quantize)
        self._checkpoint, self._source = checkpoint, checkpoint.source
        self.stage, self.dtype, self.device = checkpoint.stage, dtype, torch.device("cpu")
        self._quantize, self._report = quantize, report
        held = [weight for weight in checkpoint.agree(world) if checkpoint.find(weight) is not None]
        self._table = {weight.name: (weight, checkpoint.stored(weight, world)) for weight in checkpoint.table()}
        self._matrices = {name for name, (weight, stored) in self._table.items() if weight.matrix and len(stored) == 1}
        self._readings = {weight.name: checkpoint.readings(weight, rank, world) for weight in held}
        self._coming: dict[str, tuple[Tensor | None, list[Future[None]]]] = {}
        rounds = any(self._rounds(weight.name) for weight in held)
        stays = sum(prod(weight.shape) * self._stays(weight.name) for weight in held) / world
        self._few = int(max(FEW, TENTH * stays))  # the same on all ranks
        self._rank, self._turns = rank, cycle(range(world))  # whose turn it is to bring rows near
        self._ahead, self._most = 0, min(AHEAD, self._few) if rounds else AHEAD
        self._pool = ThreadPoolExecutor(self._source.readers, "weights")
        sizes = [self._bytes(weight.name) for weight in held]
        self.total, room = sum(sizes), sum(map(heap.aligned, sizes))
        try:
            self._region = heap.Region(room, ahead=not rounds and cores() > world)
        except OSError as error:
            raise LoadError(
                f"{checkpoint.source.place}: no memory for the {room / 1e9:.1f} GB of this rank's weights: "
                f"{error.strerror}; a machine with more memory, or a higher 'tensor_parallel_degree'"
            ) from error
        self._buffer, self._passing = Buffer(), Buffer()
        self._done = self._tenths = 0
        self._collects = gc.isenabled()
        self._shelves: Shelves | None = None
        self._together = self._share(group)
        self._waiting = iter(
            [weight.name for weight in held if self._together is None or weight.name not in self._together]
        )

    def __enter__(self) -> Loader:
        heap.blocks_apart(heap.LOADING)
        gc.disable()  # a full collection looks at all that torch is made of, which stops a rank for 80 ms
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stops the readers; after a load without error, proves that every weight was used."""
        self._pool.shutdown(cancel_futures=True)
        self._region.close()
        if self._shelves is not None and kind is None:  # else the end of the process does it, after its own sentence:
            self._shelves.close()  # the others' complaint that it has left is not to be the first
        heap.blocks_apart(heap.SERVING)
        if self._collects:
            gc.enable()
        left = [*self._coming, *self._waiting, *(() if self._together is None else self._together.left)]
        assert kind is not None or not left, f"the forward pass uses no {left}"

    def has(self, name: str) -> bool:
        """Whether the checkpoint holds this weight itself; if not, its stand-in is to be used."""
        return self._table[name][1][0].name in self._readings

    def take(self, name: str) -> Tensor:
        """This rank's part of a stored tensor in its shard's shape, contiguous; each only once.

        In the engine's dtype; in its own where it is a part of a quantized matrix, or will be rounded: then its memory
        may be used again at the next call.
        """
        assert name in self._readings, f"{name} is not in the table, or the checkpoint has a stand-in for it"
        self._look_ahead()
        tensor = (
            self._together.take(name) if self._together is not None and name in self._together else self._take(name)
        )
        for copy in self._readings[name][1:]:
            self._prove_copy(name, copy, tensor)
        self._progress(self._bytes(name))
        return tensor

    def _take(self, name: str) -> Tensor:
        """What no other rank reads for this one."""
        while name not in self._coming:
            following = next(self._waiting, None)
            assert following is not None, f"{name} was taken before"
            self._begin([following])
        flat, futures = self._coming.pop(name)
        self._ahead -= self._bytes(name)
        flat = self._read(name) if flat is None else flat
        for future in futures:
            future.result()
        return self._readings[name][0].shaped(flat)

    def matrix(self, name: str) -> Matrix:
        """This rank's part of a Linear's weight, (out, in), whatever way it is stored; rounded where that is asked."""
        weight, stored = self._table[name]
        parts = [self.take(part.name) for part in stored]
        if len(stored) > 1 and self._checkpoint.packing is not None:
            dynamic = self._quantize == "dynamic_int8"
            return form_of(self._checkpoint.packing, stored, parts, dynamic=dynamic)
        part = outputs_first(weight, parts[0])
        return rounded(self._quantize, weight, part) if self._rounds(name) else part

    def _rounds(self, name: str) -> bool:
        """Whether plain numbers are rounded after they are read."""
        return self._quantize in PACKINGS and self._checkpoint.packing is None and name in self._matrices

    def _stays(self, name: str) -> float:
        """Bytes of each of its numbers in the end, about: scales are few."""
        return ROUNDED.get(self._quantize, 1) if self._rounds(name) else self._kind(name).itemsize

    def _kind(self, name: str) -> torch.dtype:
        """The type to read a tensor in: as stored, where it is quantized or will be."""
        stored = DTYPES[self._readings[name][0].stored.dtype]
        if name not in self._table:  # a part of a quantized matrix
            return stored
        if self._rounds(name):
            return torch.float32 if stored == torch.float64 else stored
        return torch.float32 if self._table[name][0].wide and self.dtype == torch.float16 else self.dtype

    def _look_ahead(self) -> None:
        """Begins with the next weights; several at once, so that neighbours in a file can come together."""
        names: list[str] = []
        room = self._most - self._ahead
        while room >= min(self._source.block, self._most) or (names and room > 0):
            following = next(self._waiting, None)
            if following is None:
                break
            names.append(following)
            room -= self._bytes(following)
        self._begin(names)

    def _begin(self, names: Sequence[str]) -> None:
        """Lets the readers begin with these weights, or bring those near that have no memory of their own yet.

        Rows of which each rank takes a piece are brought by the ranks in turn.
        """
        tasks: list[Task] = []
        waiting: list[list[Future[None]]] = []  # for each task, its weight's
        for name in names:
            reading, futures = self._readings[name][0], list[Future[None]]()
            self._ahead += self._bytes(name)
            flat = None
            if self._source.pieces and self._checkpoint.partition is None:
                for block in reading.blocks(self._limit(name)):
                    if block.gapless or next(self._turns) == self._rank:
                        self._pool.submit(self._source.ahead, reading.stored.file, block.start, block.span)
            else:
                flat = self._region.room(reading.part.elements, self._kind(name))
                tasks += (Task(reading.stored, block, flat) for block in reading.blocks(self._limit(name)))
                waiting += (futures for _ in range(len(tasks) - len(waiting)))
            self._coming[name] = flat, futures
        for run in runs(tasks, self._source):
            future = self._pool.submit(read_run, self._source, tasks[run], self._buffer)
            for futures in waiting[run]:
                futures.append(future)

    def _read(self, name: str) -> Tensor:
        """Reads a weight now; one that will be rounded needs no memory of its own, for not all would be given back."""
        reading = self._readings[name][0]
        memory = self._passing if self._rounds(name) else self._region
        flat = memory.room(reading.part.elements, self._kind(name))
        for block in reading.blocks(self._limit(name)):
            read_run(self._source, [Task(reading.stored, block, flat)], self._buffer)
        return flat

    def _limit(self, name: str) -> int:
        """Bytes of one read of a weight."""
        cast = DTYPES[self._readings[name][0].stored.dtype] != self._kind(name)
        return self._source.cast if cast else self._source.block

    def _share(self, group: Group | None) -> Gathering | None:
        """What the ranks read for each other, with shelves of one size on all of them; never a partition."""
        if group is None or group.world == 1 or self._source.pieces or self._checkpoint.partition is not None:
            return None
        parts = {name: (readings, self._kind(name)) for name, readings in self._readings.items()}
        wanted = shared(group, parts)
        size = min(AHEAD, self._few // group.world)
        self._shelves = Shelves.join(group, size) if size >= LEAST else None
        if self._shelves is None:
            return None
        return Gathering(self._shelves, group.rank, self._source, self._pool, wanted, self._region.room, self._most)

    def _prove_copy(self, name: str, copy: Reading, tensor: Tensor) -> None:
        """A second tensor for the same weight must say the same, for only one of them can be used."""
        flat = copy.flat(tensor)
        other = torch.empty(0, dtype=flat.dtype)
        for block in copy.blocks(self._source.block):
            count = block.last - block.first
            other = torch.empty(count, dtype=flat.dtype) if len(other) < count else other
            read_run(self._source, [Task(copy.stored, replace(block, first=0, last=count), other)], self._buffer)
            if not torch.equal(flat[block.first : block.last], other[:count]):
                raise LoadError(
                    f"{copy.stored.file}: tensor {copy.stored.name!r} differs from {name!r}, of which it must be "
                    "a copy: the model uses one tensor for both"
                )

    def _bytes(self, name: str) -> int:
        return self._readings[name][0].part.elements * self._kind(name).itemsize

    def _progress(self, count: int) -> None:
        self._done += count
        tenths = self._done * 10 // max(1, self.total)
        if tenths > self._tenths:
            self._tenths = tenths
            self._report(f"weights: {self._done / 1e6:.1f} of {self.total / 1e6:.1f} MB ({tenths * 10} %)")
