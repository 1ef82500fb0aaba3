"""The tensor-parallel loader: a rank's own part of every weight, read in ranges and cast while it is read.

Not a model, and it knows no architecture: families/ says what is split how, native/architectures/ takes what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.table import Shard, Weight, shard
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.header import Stored
from heavylift_runtime.native.sources import Source

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
BLOCK = 8 * 1024 * 1024
"""Bytes of one read."""
AHEAD = 64 * 1024 * 1024
"""Bytes of weights that may be on their way before they are asked for."""


class Weights(Protocol):
    """What a forward pass is built from."""

    def has(self, name: str) -> bool:
        """Whether there is a weight of this name; if not, its stand-in is to be used."""

    def take(self, name: str) -> Tensor:
        """This rank's part of the weight; each is handed out once."""


class Loader:
    """Hands out each weight of a checkpoint once, already cut to this rank.

    A part along dimension 0 is one range of the file. One along dimension 1 lies in every row, so blocks of whole
    rows pass through a buffer of which the rank's columns are kept. Peak memory: what was handed out, plus the
    tensors on their way (64 MiB and one tensor; one tensor from a local folder), plus 8 MiB for each reader.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        rank: int,
        world: int,
        dtype: torch.dtype,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Proves the checkpoint against its family's table first: LoadError names every tensor that does not fit."""
        self._checkpoint, self._source = checkpoint, checkpoint.source
        self._dtype, self._report = dtype, report
        held = [weight for weight in checkpoint.agree() if checkpoint.find(weight) is not None]
        self._parts = {weight.name: shard(weight, rank, world) for weight in held}
        self._waiting = iter(held)
        self._coming: dict[str, tuple[Tensor, list[Future[None]]]] = {}
        self._copies = {weight.name: checkpoint.copies(weight) for weight in held}
        self._pool = ThreadPoolExecutor(self._source.readers, "weights") if self._source.readers > 1 else None
        self._total = sum(self._bytes(weight.name) for weight in held)
        self._done = self._tenths = 0

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stops the readers; after a load without error, proves that every weight was used."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        left = [*self._coming, *(weight.name for weight in self._waiting)]
        assert kind is not None or not left, f"the forward pass uses no {left}"

    def has(self, name: str) -> bool:
        """Whether the checkpoint holds this weight itself; if not, its stand-in is to be used."""
        return name in self._parts

    def take(self, name: str) -> Tensor:
        """This rank's part of the weight, contiguous, in the engine's dtype. Each is handed out once."""
        assert name in self._parts, f"{name} is not in the table, or the checkpoint has a stand-in for it"
        while name not in self._coming:
            weight = next(self._waiting, None)
            assert weight is not None, f"{name} was taken before"
            self._start(weight)
        self._look_ahead()
        target, futures = self._coming.pop(name)
        for future in futures:
            future.result()
        for stored in self._copies[name]:
            self._prove_copy(name, stored, target)
        self._progress(self._bytes(name))
        return target

    def _look_ahead(self) -> None:
        while self._pool is not None and sum(map(self._bytes, self._coming)) < AHEAD:
            weight = next(self._waiting, None)
            if weight is None:
                return
            self._start(weight)

    def _start(self, weight: Weight) -> None:
        """Reads a weight, or lets the readers begin with it."""
        stored, part = self._checkpoint.find(weight), self._parts[weight.name]
        assert stored is not None
        target = torch.empty(part.shape, dtype=self._dtype)
        tasks = [(self._source, stored, part, rows, target) for rows in blocks(stored, part)]
        if self._pool is None:
            for task in tasks:
                read_block(*task)
            self._coming[weight.name] = target, []
        else:
            self._coming[weight.name] = target, [self._pool.submit(read_block, *task) for task in tasks]

    def _prove_copy(self, name: str, stored: Stored, target: Tensor) -> None:
        """A second tensor for the same weight must say the same, for only one of them can be used."""
        other = torch.empty_like(target)
        for rows in blocks(stored, self._parts[name]):
            read_block(self._source, stored, self._parts[name], rows, other)
        if not torch.equal(target, other):
            raise LoadError(
                f"{stored.file}: tensor {stored.name!r} differs from {name!r}, of which it must be a copy; "
                "this engine has one embedding for both stacks"
            )

    def _bytes(self, name: str) -> int:
        return self._parts[name].elements * self._dtype.itemsize

    def _progress(self, count: int) -> None:
        self._done += count
        tenths = self._done * 10 // max(1, self._total)
        if tenths > self._tenths:
            self._tenths = tenths
            self._report(f"weights: {self._done / 1e6:.1f} of {self._total / 1e6:.1f} MB ({tenths * 10} %)")


def blocks(stored: Stored, part: Shard) -> Iterator[tuple[int, int]]:
    """The file's rows `[first, last)` that hold the part, in reads of at most BLOCK bytes (or one row)."""
    step = max(1, BLOCK // max(1, prod(stored.shape[1:]) * stored.item))
    for first in range(part.start[0], part.stop[0], step):
        yield first, min(first + step, part.stop[0])


@torch.inference_mode()  # of its own: the mode does not reach the readers' threads
def read_block(source: Source, stored: Stored, part: Shard, rows: tuple[int, int], target: Tensor) -> None:
    """Reads whole rows and puts the part's share of them, cast, into `target` of the part's shape."""
    first, last = rows
    width = prod(stored.shape[1:])
    buffer = bytearray((last - first) * width * stored.item)
    if not buffer:
        return
    source.read_into(stored.file, stored.start + first * width * stored.item, memoryview(buffer))
    block = torch.frombuffer(buffer, dtype=DTYPES[stored.dtype]).view(last - first, *stored.shape[1:])
    for axis in range(1, len(stored.shape)):
        block = block.narrow(axis, part.start[axis], part.stop[axis] - part.start[axis])
    target[first - part.start[0] : last - part.start[0]].copy_(block)
