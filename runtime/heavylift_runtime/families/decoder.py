"""What the decoder-only families have in common: their sizes, which degrees divide them, sums over their tables.

Not one family: each has a file of its own, which reads config.json and yields the table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families import stages
from heavylift_runtime.families.rotary import Rotary
from heavylift_runtime.families.stages import End, Layer
from heavylift_runtime.families.table import Split, Weight, located, shard

ACTIVATIONS = {
    "relu": "relu", "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_python": "gelu",
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"), "gelu_tanh"),
    "quick_gelu": "gelu_quick", "relu2": "relu_squared",
}  # fmt: skip
"""Hugging Face's word → ours."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What config.json says, typed, under one set of names for all families."""

    vocabulary: int
    width: int
    """Of the residual stream."""
    layers: int
    heads: int
    pairs: int
    """Key-value heads; as many as `heads`, or each shared by `heads / pairs` of them."""
    head_width: int
    inner: int
    """Width of a feed-forward layer (of one expert)."""
    activation: str
    epsilon: float
    tied: bool
    positions: int | None
    """The most tokens of prompt and answer together; None: no limit."""
    rotary: Rotary | None = None
    windows: tuple[int | None, ...] = ()
    """For each layer, how many tokens a query sees, itself included; None: all. Empty: all, in every layer."""

    @property
    def window_of(self) -> tuple[int | None, ...]:
        return self.windows or (None,) * self.layers


S = TypeVar("S", bound=Shape)


class DecoderFamily(ABC, Generic[S]):
    """A family without encoder. A subclass gives `title`, `prefix`, `keys`, `shape`, and what each layer holds."""

    title: str
    has_encoder = False
    prefix: str
    """Tensors are stored with it, or, where the model was saved without its head, without it."""
    keys: Mapping[str, str]
    """Our names of `heads`, `pairs` and `inner` → config.json's."""
    embedding: str
    head: str
    layers: str = "num_hidden_layers"
    """config.json's name of their number."""

    @abstractmethod
    def shape(self, config: Mapping[str, Any]) -> S:
        """LoadError with every fault of config.json at once."""

    @abstractmethod
    def layer(self, shape: S, number: int) -> Iterator[Weight]:
        """The weights of one layer, in the order in which the forward pass is built."""

    def front(self, shape: S) -> Iterator[Weight]:
        """Those between the embedding and the layers."""
        return iter(())

    @abstractmethod
    def back(self, shape: S) -> Iterator[Weight]:
        """Those between the layers and the head."""

    def buffers(self, shape: S) -> Iterator[str]:
        """Names of constants that older checkpoints hold; nothing reads them."""
        return iter(())

    def faults(self, config: Mapping[str, Any]) -> list[str]:
        try:
            self.shape(config)
        except LoadError as error:
            return str(error).splitlines()
        return []

    def check(
        self, config: Mapping[str, Any], tensor_parallel_degree: int, pipeline_parallel_degree: int = 1
    ) -> list[str]:
        if faults := self.faults(config):
            return faults
        shape, degree = self.shape(config), tensor_parallel_degree
        fitting = " or ".join(str(d) for d in range(1, shape.heads + 1) if not _uneven(shape, d))
        faults = [
            f"tensor_parallel_degree {degree} does not divide {self.keys[name]!r} {getattr(shape, name)}; use {fitting}"
            for name in _uneven(shape, degree)
        ]
        if shape.vocabulary < degree:
            faults.append(f"tensor_parallel_degree {degree} is more than 'vocab_size' {shape.vocabulary}")
        return faults + stages.faults(pipeline_parallel_degree, **{self.layers: shape.layers})

    def weights(self, config: Mapping[str, Any]) -> Iterable[Weight]:
        shape = self.shape(config)
        for weight in self._table(shape):
            short = weight.name.removeprefix(self.prefix)
            yield replace(weight, copies=(short, *weight.copies)) if short != weight.name else weight

    def ignored(self, config: Mapping[str, Any]) -> Collection[str]:
        names = list(self.buffers(self.shape(config)))
        return [*names, *(name.removeprefix(self.prefix) for name in names)]

    def parameters(self, config: Mapping[str, Any], present: Collection[str] | None = None) -> int:
        return self._elements(config, 1)

    def bytes_per_rank(
        self, config: Mapping[str, Any], degree: int, bytes_per_element: int, present: Collection[str] | None = None
    ) -> int:
        return self._elements(config, degree) * bytes_per_element

    def _elements(self, config: Mapping[str, Any], degree: int) -> int:
        """Numbers on the last rank, which is never the smaller one."""
        return sum(shard(weight, degree - 1, degree).elements for weight in self.weights(config))

    def _table(self, shape: S) -> Iterator[Weight]:
        size = (shape.vocabulary, self.embedded(shape))
        # config.json decides: a tied checkpoint's head, where it holds one, must be a copy of the embedding
        copies, end = ((self.head,), End.BOTH) if shape.tied else ((), End.FIRST)
        yield Weight(self.embedding, size, Split.VOCABULARY, copies=copies, where=end)
        yield from located(End.FIRST, self.front(shape))
        for number in range(shape.layers):
            yield from located(Layer(number, shape.layers), self.layer(shape, number))
        yield from located(End.LAST, self.back(shape))
        if not shape.tied:
            yield Weight(self.head, size, Split.VOCABULARY, head=True, where=End.LAST)
        yield from located(End.LAST, self.beside_head(shape))

    def beside_head(self, shape: S) -> Iterator[Weight]:
        """What comes with the head."""
        return iter(())

    def embedded(self, shape: S) -> int:
        """Width of a token's embedding."""
        return shape.width


def _uneven(shape: Shape, degree: int) -> list[str]:
    """Which sizes the degree does not divide; key-value heads may instead be divided by it, and are then repeated."""
    uneven = [name for name in ("heads", "inner") if getattr(shape, name) % degree]
    if shape.pairs != shape.heads and shape.pairs % degree and degree % shape.pairs:
        uneven.append("pairs")
    return uneven


def linear(name: str, size: tuple[int, int], split: Split, *, unit: int = 1, bias: bool = True) -> Iterator[Weight]:
    """A Linear's weight (out, in) and, after it, its bias: split with the outputs, whole where the inputs are split."""
    yield Weight(f"{name}.weight", size, split, unit)
    if bias:
        yield Weight(f"{name}.bias", size[:1], *((split, unit) if split is Split.COLUMN else ()))


def norm(name: str, width: int, *, bias: bool = True) -> Iterator[Weight]:
    """A norm's weight and bias."""
    yield Weight(f"{name}.weight", (width,))
    if bias:
        yield Weight(f"{name}.bias", (width,))
