"""The declaration of a checkpoint's tensors: name, shape, and how each is split over tensor-parallel ranks.

Not a loader and no torch: the plan, the loader and a partition all read this one table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import Any, Protocol


class Split(Enum):
    """How a tensor is divided; named after the layer, as in Shoeybi et al. 2019 (Megatron-LM)."""

    WHOLE = "every rank holds all of it"
    COLUMN = "equal parts of dimension 0: the outputs of a Linear, weight (out, in)"
    ROW = "equal parts of dimension 1: the inputs of a Linear, or the heads of a (buckets, heads) table"
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

    @property
    def axis(self) -> int | None:
        """The dimension that is split, or None."""
        return None if self.split is Split.WHOLE else 1 if self.split is Split.ROW else 0


@dataclass(frozen=True)
class Shard:
    """A rank's part of a tensor: `[start, stop)` for each dimension."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(stop - start for start, stop in zip(self.start, self.stop, strict=True))

    @property
    def elements(self) -> int:
        return prod(self.shape)


def shard(weight: Weight, rank: int, world: int) -> Shard:
    """The part of `weight` that `rank` of `world` holds; Family.check has refused what does not divide."""
    assert 0 <= rank < world
    start, stop = [0] * len(weight.shape), list(weight.shape)
    if weight.axis is not None:
        size = weight.shape[weight.axis]
        assert weight.split is Split.VOCABULARY or size % (weight.unit * world) == 0, f"{weight} over {world} ranks"
        start[weight.axis], stop[weight.axis] = size * rank // world, size * (rank + 1) // world
    return Shard(tuple(start), tuple(stop))


class Family(Protocol):
    """What is known of one model family without its forward pass. `config` is the parsed config.json."""

    @property
    def title(self) -> str:
        """The models, for people."""

    def faults(self, config: Mapping[str, Any]) -> list[str]:
        """What in config.json this family cannot be read from; empty when it is sound."""

    def check(self, config: Mapping[str, Any], tensor_parallel_degree: int) -> list[str]:
        """Sentences on why the model cannot be split over so many ranks; empty when it can."""

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
