"""The blocks of decoder-only models: attention and feed-forward with their norms, in the orders that families use.

Not the attention itself (attention.py), and no names of weights: those are each family's own file's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from heavylift_runtime.native.architectures.attention import Pass
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.kernels.recording import between
from heavylift_runtime.native.layers import activated, beside, gated
from heavylift_runtime.native.linear import Linear
from heavylift_runtime.native.quantize.forms import Matrix

Norm = Callable[[Tensor], Tensor]


class Output:
    """A row-parallel product that ends a layer: its sum over the ranks, on top of the residual and its bias, once."""

    def __init__(self, weight: Matrix, group: Group, bias: Tensor | None = None) -> None:
        self._linear, self._group = Linear(weight, bias if group.rank == 0 else None), group

    def __call__(self, residual: Tensor, x: Tensor) -> Tensor:
        # the residual is in the sum once: rank 0 brings it
        part = self._linear.onto(residual, x) if self._group.rank == 0 else self._linear(x)
        if self._group.world > 1:
            between(lambda: self._group.all_reduce(part))
        return part


class Block(Protocol):
    """One layer of a decoder."""

    def __call__(self, x: Tensor, layer: int, text: Pass) -> Tensor:
        """(N, d) → (N, d)"""


class Layer(Protocol):
    """What a block does between attentions: feed-forward, or experts."""

    def __call__(self, residual: Tensor, x: Tensor) -> Tensor:
        """residual + layer(x), (N, d)"""


class Attention:
    """Fused q, k, v; the heads' mixing; output."""

    def __init__(self, qkv: Callable[[Tensor], Tensor], output: Output) -> None:
        self._qkv, self._output = qkv, output

    def __call__(self, residual: Tensor, x: Tensor, layer: int, text: Pass) -> Tensor:
        return self._output(residual, text.mix(layer, self._qkv(x)))


class Inner:
    """A feed-forward layer up to its activation; `gated`: the first half of the outputs gates the second."""

    def __init__(self, up: Linear, activation: str, *, gated: bool = False) -> None:
        self._up, self._activation, self._gated = up, activation, gated

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) → (N, inner)"""
        inner = self._up(x)
        return (gated if self._gated else activated)(inner, self._activation)


class FeedForward:
    """Inner layer and output."""

    def __init__(self, inner: Inner, output: Output) -> None:
        self._inner, self._output = inner, output

    def __call__(self, residual: Tensor, x: Tensor) -> Tensor:
        return self._output(residual, self._inner(x))


class PreNorm:
    """Each layer reads the normed residual (GPT-2, Llama, BLOOM, most OPT)."""

    def __init__(self, norm: Norm, attention: Attention, second: Norm, feed_forward: Layer) -> None:
        self._norm, self._attention, self._second, self._feed_forward = norm, attention, second, feed_forward

    def __call__(self, x: Tensor, layer: int, text: Pass) -> Tensor:
        x = self._attention(x, self._norm(x), layer, text)
        return self._feed_forward(x, self._second(x))


class PostNorm:
    """Each layer's sum is normed (OPT 350 M)."""

    def __init__(self, norm: Norm, attention: Attention, second: Norm, feed_forward: Layer) -> None:
        self._norm, self._attention, self._second, self._feed_forward = norm, attention, second, feed_forward

    def __call__(self, x: Tensor, layer: int, text: Pass) -> Tensor:
        x = self._norm(self._attention(x, x, layer, text))
        return self._second(self._feed_forward(x, x))


class Parallel:
    """Attention and feed-forward read the same residual; their outputs are one product, and one sum over the ranks."""

    def __init__(self, norm: Norm, qkv: Linear, second: Norm | None, inner: Inner, output: Output) -> None:
        """`second`: the feed-forward's own norm; None: it shares the attention's. `output`: of both side by side."""
        self._norm, self._qkv, self._second, self._inner, self._output = norm, qkv, second, inner, output

    def __call__(self, x: Tensor, layer: int, text: Pass) -> Tensor:
        normed = self._norm(x)
        inner = self._inner(normed if self._second is None else self._second(x))
        return self._output(x, beside(text.mix(layer, self._qkv(normed)), inner))
