"""The layers that architectures are built of: norms, activations, relative position bias, attention.

Not a model: each is a function of tensors. Rows are flat, (N, features), so that every product is one plain matmul.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from heavylift_runtime.native.kernels import calls as kernels
from heavylift_runtime.native.kernels.lookups import Seen

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "gelu_quick": lambda x: x * torch.sigmoid(1.702 * x),  # Hendrycks and Gimpel 2016
    "relu_squared": lambda x: torch.relu(x).square_(),  # So et al. 2021
}
"""Those that published models use."""


def activated(inner: Tensor, activation: str) -> Tensor:
    """Each number's activation: (N, F) → (N, F)"""
    return kernels.bend(inner, activation) if kernels.usable(inner) else ACTIVATIONS[activation](inner)


def gated(inner: Tensor, activation: str) -> Tensor:
    """The first half of each row, activated, times the second: (N, 2 F) → (N, F)"""
    if kernels.usable(inner):
        return kernels.bend(inner, activation, gated=True)
    half = inner.shape[1] // 2
    return ACTIVATIONS[activation](inner.narrow(1, 0, half)).mul_(inner.narrow(1, half, half))


def beside(left: Tensor, right: Tensor) -> Tensor:
    """(N, a) and (N, b) → (N, a + b)"""
    return kernels.beside(left, right) if kernels.usable(left) else torch.cat([left, right], 1)


class RMSNorm:
    """x / sqrt(mean(x²) + epsilon) * weight (Zhang and Sennrich 2019), the mean in fp32."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        self.weight, self._epsilon = weight, torch.tensor(epsilon)
        self._shape, self._number = weight.shape, epsilon
        self._mean = 1 / weight.shape[0]

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) → (N, d)"""
        if kernels.usable(x):
            return kernels.norm(x, self.weight, self._number)
        if x.dtype != torch.float32:
            return F.rms_norm(x, self._shape, self.weight, self._number)
        # a row's sum of squares as a 1 x 1 product, which takes half the time of F.rms_norm on a CPU
        squares = torch.baddbmm(self._epsilon, x.unsqueeze(1), x.unsqueeze(2), alpha=self._mean)  # (N, 1, 1)
        return (x * squares.rsqrt_().squeeze(2)).mul_(self.weight)


class LayerNorm:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias (Ba et al. 2016)."""

    def __init__(self, weight: Tensor, bias: Tensor, epsilon: float) -> None:
        self._weight, self._bias, self._shape, self._epsilon = weight, bias, weight.shape, epsilon

    def __call__(self, x: Tensor) -> Tensor:
        """(N, d) → (N, d)"""
        if kernels.usable(x):
            return kernels.norm(x, self._weight, self._epsilon, self._bias)
        return F.layer_norm(x, self._shape, self._weight, self._bias, self._epsilon)


def position_buckets(distance: Tensor, *, bidirectional: bool, buckets: int, furthest: int) -> Tensor:
    """T5's bucket of each distance (key position - query position), as int64 (Raffel et al. 2020, section 2.1).

    Half of the buckets are exact distances, the others grow with the logarithm up to `furthest`; with
    `bidirectional` half of all are for keys after the query, without it those count as distance 0.
    """
    offset = torch.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        offset = (distance > 0).long() * buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = buckets // 2
    # in fp32 and in this order: at the borders of buckets the truncation depends on it
    growth = torch.log(distance.float() / exact) / math.log(furthest / exact) * (buckets - exact)
    far = (exact + growth.nan_to_num(neginf=0).long()).clamp(max=buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


class PositionBias:
    """T5's learned bias on attention, by head and by the distance from query to key."""

    def __init__(self, table: Tensor, *, bidirectional: bool, furthest: int) -> None:
        """`table`: (buckets, H)"""
        self._table, self._bidirectional, self._furthest = table, bidirectional, furthest
        self._known = self._compute(64)

    def _compute(self, count: int) -> Tensor:
        """(H, 2 * count - 1)"""
        distance = torch.arange(1 - count, count)
        buckets = position_buckets(
            distance, bidirectional=self._bidirectional, buckets=len(self._table), furthest=self._furthest
        )
        return self._table[buckets].t().contiguous()

    def between(self, count: int) -> Tensor:
        """(H, 2 * count - 1): for a key `count` - 1 positions before the query, …, at it, …, as far after it"""
        known = (self._known.shape[1] + 1) // 2
        if count > known:
            self._known = self._compute(max(count, 2 * known))
            known = max(count, 2 * known)
        return self._known[:, known - count : known + count - 1]

    def square(self, count: int) -> Tensor:
        """(H, count, count): query, key"""
        return self.between(count).unfold(1, count, 1).flip(1)


def slopes_of(heads: int) -> Tensor:
    """ALiBi's penalty on each position of distance, by head (Press et al. 2022): (heads,) fp32.

    A geometric row for a power of two; other counts take every second one of twice as many heads for the rest.
    """
    power = 2 ** int(math.log2(heads))
    first = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    rest = [2 ** (-4 * (2 * head + 1) / power) for head in range(heads - power)]
    return torch.tensor(first + rest)


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float, mixed: Tensor) -> None:
    """softmax(scale q k + bias) v, into `mixed`: q (B, H, D), k (B * P, D, T), v (B * P, T, D) → (B, H, D).

    P key-value heads, each for H / P query heads; each row has one query. Without our kernels, batched products beat
    PyTorch's fused one, whose start costs more than one query's work.
    """
    if kernels.usable(query):
        kernels.attend(query, key, value, seen, scale, mixed)
        return
    # a copy of its own: a product's last bits depend on where in memory its factors begin
    query = query.clone(memory_format=torch.contiguous_format).view(len(key), -1, query.shape[2])
    scores = torch.baddbmm(seen.bias, query, key, alpha=scale)
    torch.bmm(torch.softmax(scores, -1), value, out=mixed.view(query.shape))
