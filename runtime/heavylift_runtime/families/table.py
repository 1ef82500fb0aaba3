"""The declaration of a checkpoint's tensors: name, shape, how each is split over ranks, and to which layer it belongs.

Not a loader and no torch: the plan, the loader and a partition all read this one table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any, Protocol

from heavylift_runtime.families.stages import End, Where

FLOATS = ("F64", "F32", "F16", "BF16")


class Split(Enum):
    """How a tensor is divided; named after the layer, as in Shoeybi et al. 2019 (Megatron-LM)."""

    WHOLE = "every rank holds all of it"
    COLUMN = "equal parts of dimension 0: the outputs of a Linear, weight (out, in), or its bias (out,)"
    ROW = "equal parts of dimension 1: the inputs of a Linear"
    HEADS = "equal parts of dimension 1: the heads of a (buckets, heads) table"
    VOCABULARY = "parts of dimension 0 that differ by at most one row, without padding"


@dataclass(frozen=True)
class Weight:
    """One tensor of a checkpoint."""

    name: str
    shape: tuple[int, ...]
    split: Split = Split.WHOLE
    unit: int = 1
    """So many neighbours on the split axis stay on one rank (a head's width)."""
    copies: tuple[str, ...] = ()
    """Other names under which a checkpoint may hold the same tensor, instead or besides."""
    stand_in: str | None = None
    """The weight that is used where the checkpoint has none of this name (a tied head); None: it must be there."""
    transposed: bool = False
    """The matrix is stored (in, out), as GPT-2's Conv1D does: outputs are dimension 1, inputs dimension 0."""
    fused: int = 1
    """So many equal tensors lie one after the other on the split axis, and each is split for itself (q, k and v)."""
    replicated: bool = False
    """There may be fewer units than ranks (key-value heads): then neighbouring ranks hold the same unit."""
    head: bool = False
    """The scores of the vocabulary, where they have a matrix of their own."""
    where: Where = End.EVERY
    """The layer that it belongs to; which stages of a pipeline hold it follows from that."""
    wide: bool = False
    """It stays in fp32 where the engine computes in fp16."""
    types: tuple[str, ...] = FLOATS
    """safetensors' names of what a checkpoint may store it in."""

    @property
    def matrix(self) -> bool:
        """A Linear's matrix, which may be quantized; tables, norms and routers never are."""
        return len(self.shape) == 2 and (self.head or self.split in (Split.COLUMN, Split.ROW))

    @property
    def outputs(self) -> int:
        """Of a Linear's matrix."""
        return self.shape[self.transposed]

    @property
    def inputs(self) -> int:
        return self.shape[not self.transposed]

    @property
    def viewed(self) -> tuple[int, ...]:
        """The shape in which the tensor is split: as stored, but for `fused` ones with an axis for their number."""
        if self.fused == 1:
            return self.shape
        at = self._stored_axis
        assert at is not None and self.shape[at] % self.fused == 0, f"{self} is not {self.fused} equal tensors"
        return (*self.shape[:at], self.fused, self.shape[at] // self.fused, *self.shape[at + 1 :])

    @property
    def axis(self) -> int | None:
        """The dimension of `viewed` that is split, or None."""
        at = self._stored_axis
        return at if at is None or self.fused == 1 else at + 1

    @property
    def _stored_axis(self) -> int | None:
        if self.split is Split.WHOLE:
            return None
        return int((self.split in (Split.ROW, Split.HEADS)) != self.transposed)


@dataclass(frozen=True)
class Shard:
    """A rank's part of a tensor in its `viewed` shape: `[start, stop)` for each dimension."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @cached_property
    def elements(self) -> int:
        return prod(self.shape)


def located(where: Where, weights: Iterable[Weight]) -> Iterator[Weight]:
    """The same weights, belonging there."""
    return (replace(weight, where=where) for weight in weights)


def shard(weight: Weight, rank: int, world: int) -> Shard:
    """The part of `weight` that `rank` of `world` holds; Family.check has refused what does not divide."""
    assert 0 <= rank < world
    start, stop = [0] * len(weight.viewed), list(weight.viewed)
    if weight.axis is not None:
        size = weight.viewed[weight.axis]
        units = size // weight.unit
        if weight.replicated and units < world:
            assert world % units == 0, f"{weight} over {world} ranks"
            first = rank * units // world
            start[weight.axis], stop[weight.axis] = first * weight.unit, (first + 1) * weight.unit
        else:
            assert weight.split is Split.VOCABULARY or size % (weight.unit * world) == 0, f"{weight} over {world} ranks"
            start[weight.axis], stop[weight.axis] = size * rank // world, size * (rank + 1) // world
    return Shard(tuple(start), tuple(stop))


class Family(Protocol):
    """What is known of one model family without its forward pass. `config` is the parsed config.json."""

    @property
    def title(self) -> str:
        """The models, for people."""

    @property
    def has_encoder(self) -> bool:
        """An encoder reads the prompt, and the answer begins with a token of its own; else the answer continues it."""

    def faults(self, config: Mapping[str, Any]) -> list[str]:
        """What in config.json this family cannot be read from; empty when it is sound."""

    def check(
        self, config: Mapping[str, Any], tensor_parallel_degree: int, pipeline_parallel_degree: int = 1
    ) -> list[str]:
        """Sentences on why the model cannot be split over so many ranks and stages; empty when it can."""

    def weights(self, config: Mapping[str, Any]) -> Iterable[Weight]:
        """The table, in the order in which the forward pass is built; each name once."""

    def ignored(self, config: Mapping[str, Any]) -> Collection[str]:
        """Tensors that published checkpoints hold though nothing uses them."""

    def parameters(self, config: Mapping[str, Any], present: Collection[str] | None = None) -> int:
        """Stored numbers. `present`: the checkpoint's names, where known; else config.json says whether it is tied."""

    def bytes_per_rank(
        self, config: Mapping[str, Any], degree: int, bytes_per_element: int, present: Collection[str] | None = None
    ) -> int:
        """Bytes of weights on the fullest rank."""
