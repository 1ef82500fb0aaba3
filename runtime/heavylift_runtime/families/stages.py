"""The stages of a pipeline: which layers each one holds, and which of the tensors that belong to no layer.

Not the split within a layer (table.py). Layers follow one another, and so do stages; each is held by
`tensor_parallel_degree` neighbouring ranks: rank = stage * tensor_parallel_degree + part (Narayanan et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class End(Enum):
    """Where a tensor is used that belongs to no layer."""

    FIRST = "before the layers, on the first stage"
    LAST = "after the layers, on the last stage"
    BOTH = "before and after them: an embedding that is the head, too"
    EVERY = "in the layers of each stage"


@dataclass(frozen=True)
class Layer:
    """Layer `number` of a stack of so many; an encoder and a decoder are two stacks."""

    number: int
    of: int


Where = Layer | End


@dataclass(frozen=True)
class Stage:
    """Stage `number` of so many."""

    number: int = 0
    of: int = 1

    @classmethod
    def holding(cls, rank: int, tensor: int, pipeline: int) -> Stage:
        """A rank's stage; `rank % tensor` is its part."""
        return cls(rank // tensor, pipeline)

    @property
    def first(self) -> bool:
        return self.number == 0

    @property
    def last(self) -> bool:
        return self.number == self.of - 1

    def layers(self, count: int) -> range:
        """Its layers of a stack; where stages differ, by one, the earlier ones have more: the last has the head."""
        return range(-(-count * self.number // self.of), -(-count * (self.number + 1) // self.of))

    def most(self, count: int) -> int:
        """Layers of a stack on the fullest stage."""
        return -(-count // self.of)

    def holds(self, where: Where) -> bool:
        """Whether a tensor that is used there is on this stage."""
        match where:
            case Layer(number, of):
                return number in self.layers(of)
            case End.FIRST:
                return self.first
            case End.LAST:
                return self.last
            case End.BOTH:
                return self.first or self.last
            case End.EVERY:
                return True


WHOLE = Stage()


def faults(pipeline_parallel_degree: int, **layers: int) -> list[str]:
    """Why stacks of so many layers, by config.json's names, cannot be divided into so many stages."""
    return [
        f"pipeline_parallel_degree {pipeline_parallel_degree} is more than {name!r} {count}: every stage has a layer"
        for name, count in layers.items()
        if pipeline_parallel_degree > count
    ]
