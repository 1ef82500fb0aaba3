"""The kernels as functions of tensors: what C is told of them, and where its results are.

Not a choice: linear.py, layers.py and cache.py ask `usable`, and else take PyTorch's own.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from heavylift_runtime.native.kernels import arguments
from heavylift_runtime.native.kernels.library import library
from heavylift_runtime.native.kernels.lookups import Angles, Seen
from heavylift_runtime.native.kernels.recording import Recording, current
from heavylift_runtime.native.quantize.forms import DynamicInt8, Int8

TYPES = {torch.float32: 0, torch.bfloat16: 1}
"""kernels.h's numbers for what activations may be."""
WHOLE = 2
"""And for weights in whole numbers."""
ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "gelu_quick", "relu_squared")
"""By kernels.h's numbers."""
LONGEST = 2**15
"""Inputs of a weight in whole numbers, at most: so many times 255 * 127 still fit into 32 bits."""
OUTPUTS = 256
"""Whose levels are added at once."""


def usable(tensor: Tensor) -> bool:
    """Whether there are kernels for numbers of this type, here."""
    return tensor.dtype in TYPES and tensor.device.type == "cpu" and library() is not None


@cache
def _kernel(name: str) -> Any:
    found = library()
    assert found is not None
    kernel = getattr(found, name)
    kernel.argtypes = [ctypes.c_void_p]
    return kernel


def _do(name: str, what: ctypes.Structure) -> None:
    """Calls a kernel, and keeps the call where calls are kept."""
    kernel = _kernel(name)
    if kernel(ctypes.addressof(what)):
        raise MemoryError("can't allocate memory for a kernel's own numbers")
    if (recording := current()) is not None:
        recording.add(kernel, what)


@cache
def _run() -> Any:
    run = _kernel("run")
    run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_int64], ctypes.c_int64
    return run


def again(recording: Recording) -> None:
    """All calls of a recording."""
    if not recording.again(_run()):
        raise MemoryError("can't allocate memory for a kernel's own numbers")


def empty(like: Tensor, *shape: int) -> Tensor:
    """A tensor of the same type, with no numbers yet, where kernels may put something."""
    recording = current() if usable(like) else None
    return like.new_empty(shape) if recording is None else recording.room.empty(shape, like.dtype)


class Product:
    """x @ weight.T + bias + base for x (N, in), a weight (out, in) as it is, bias (out,), base (N, out)."""

    def __init__(self, weight: Tensor | Int8, bias: Tensor | None = None) -> None:
        """`weight`: fp32 or bf16, then for activations of the same type; or in whole numbers, for these and fp16."""
        self._outputs, self._inputs = weight.shape
        self._bias = None if bias is None else bias.float().contiguous()
        if isinstance(weight, Tensor):
            self._kept = [weight.contiguous()]
            self._types = {weight.dtype: TYPES[weight.dtype]}
            kind, parts = TYPES[weight.dtype], 1
        else:
            # some outputs at a time: PyTorch makes them four times as wide before it adds
            sums = torch.cat([some.sum(1, dtype=torch.int32) for some in torch.split(weight.levels, OUTPUTS)])
            self._kept = [weight.levels.contiguous(), weight.scale.float().contiguous(), sums]
            self._types, kind, parts = TYPES, WHOLE, 1 if isinstance(weight, DynamicInt8) else 2
        numbers, scale, sums_at = [*(each.data_ptr() for each in self._kept), None, None][:3]
        under = None if self._bias is None else self._bias.data_ptr()
        self._matrix = arguments.Matrix(numbers, scale, sums_at, under, self._outputs, self._inputs, kind, parts)
        self.at = ctypes.addressof(self._matrix)

    def __call__(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """(N, in) → (N, out), in x's type"""
        rows, inputs = x.shape
        assert inputs == self._inputs, f"{inputs} inputs for a weight of {self._inputs}"
        if x.dtype == torch.float16 and len(self._types) > 1:
            return self(x.float(), None if base is None else base.float()).half()
        if not x.is_contiguous():
            x = x.contiguous()
        if base is not None and not base.is_contiguous():
            base = base.contiguous()
        y = empty(x, rows, self._outputs)
        under = None if base is None else base.data_ptr()
        _do("product", arguments.Product(self.at, x.data_ptr(), under, y.data_ptr(), rows, self._types[x.dtype]))
        return y


def norm(x: Tensor, weight: Tensor, epsilon: float, bias: Tensor | None = None) -> Tensor:
    """x / sqrt(mean(x²) + epsilon) * weight: (N, d) → (N, d); with a bias, of x less its mean, and plus the bias"""
    if not x.is_contiguous():
        x = x.contiguous()
    rows, width = x.shape
    y = empty(x, rows, width)
    assert weight.shape[0] == width and weight.dtype == x.dtype and (bias is None or bias.dtype == x.dtype)
    at = x.data_ptr(), weight.data_ptr(), None if bias is None else bias.data_ptr(), y.data_ptr()
    _do("norm", arguments.Norm(*at, rows, 1, width, width, epsilon, TYPES[x.dtype]))
    return y


def norm_heads_(heads: Tensor, weight: Tensor, epsilon: float) -> None:
    """Each head of (N, K, D) for itself, in place: x / sqrt(mean(x²) + epsilon) * weight, (K, D)"""
    rows, count, width = heads.shape
    pitch, *steps = heads.stride()
    assert steps == [width, 1] and weight.shape == (count, width) and weight.dtype == heads.dtype
    at = heads.data_ptr(), weight.data_ptr(), None, heads.data_ptr()
    _do("norm", arguments.Norm(*at, rows, count, width, pitch, epsilon, TYPES[heads.dtype]))


def bend(inner: Tensor, activation: str, *, gated: bool = False) -> Tensor:
    """The activation of each number, (N, F) → (N, F); gated, of one half times the other, (N, 2 F) → (N, F)"""
    if not inner.is_contiguous():
        inner = inner.contiguous()
    rows, width = inner.shape[0], inner.shape[1] // (2 if gated else 1)
    y = empty(inner, rows, width)
    how = ACTIVATIONS.index(activation)
    _do("bend", arguments.Bend(inner.data_ptr(), y.data_ptr(), rows, width, how, gated, TYPES[inner.dtype]))
    return y


def beside(left: Tensor, right: Tensor) -> Tensor:
    """(N, a) and (N, b) → (N, a + b)"""
    left, right, rows = left.contiguous(), right.contiguous(), len(left)
    y = empty(left, rows, left.shape[1] + right.shape[1])
    sizes = [each.shape[1] * each.itemsize for each in (left, right)]
    _do("beside", arguments.Beside(left.data_ptr(), right.data_ptr(), y.data_ptr(), rows, *sizes))
    return y


def likeliest(scores: Tensor) -> Tensor:
    """(N, V) → where each row's highest number is, the first of them: (N,) int64"""
    scores = scores.contiguous()
    rows, count = scores.shape
    places = torch.empty(rows, dtype=torch.int64)
    _do("likeliest", arguments.Likeliest(scores.data_ptr(), places.data_ptr(), rows, count, TYPES[scores.dtype]))
    return places


def narrow(weight: Tensor) -> tuple[Int8, Tensor, Tensor]:
    """A weight (out, in) in 8 bits, and for `screen` no less than each output's length and its error's, (out,) fp32."""
    weight, (outputs, inputs) = weight.contiguous(), weight.shape
    levels, numbers = torch.empty(outputs, inputs, dtype=torch.int8), torch.empty(3, outputs)
    scale, lengths, errors = numbers.unbind(0)
    at = [each.data_ptr() for each in (weight, levels, scale, lengths, errors)]
    _do("narrow", arguments.Narrow(*at, outputs, inputs, TYPES[weight.dtype]))
    return Int8(levels, scale), lengths, errors


def screen(exact: Product, rough: Tensor, lengths: Tensor, errors: Tensor, x: Tensor) -> tuple[Tensor, Tensor, int]:
    """The highest output of each row of x (N, in), (N,) fp32; where it is, (N,) int64; how many outputs were computed.

    `exact`: of plain numbers, without a bias; `rough`: (N, out) fp32, x times the same weights in whole numbers;
    `lengths`, `errors`: (out,) fp32, see head.c.
    """
    x, rows = x.contiguous(), len(x)
    scores, places, looked = torch.empty(rows), torch.empty(rows, dtype=torch.int64), torch.empty(1, dtype=torch.int64)
    given = exact.at, rough.data_ptr(), lengths.data_ptr(), errors.data_ptr(), x.data_ptr()
    found = scores.data_ptr(), places.data_ptr(), looked.data_ptr()
    _do("screen", arguments.Screen(*given, *found, rows, TYPES[x.dtype]))
    return scores, places, int(looked)


def turn_(heads: Tensor, angles: Angles, *, paired: bool) -> None:
    """Turns the first R numbers of heads (N, K, D), in place: each with the one R / 2 further on.

    `paired`: each with its neighbour.
    """
    rows, count, width = heads.shape
    pitch, *steps = heads.stride()
    assert steps == [width, 1] and angles.cosines.dtype == heads.dtype and len(angles.positions) == rows
    shape = rows, count, pitch, width, angles.cosines.shape[2]
    _do("turn", arguments.Turn(heads.data_ptr(), angles.at, *shape, paired, TYPES[heads.dtype]))


def put(pairs: Tensor, positions: Tensor, cache: Tensor, first: int, each: int) -> None:
    """Keys, then values, (B, 2 P, D), to the rows' `positions` (B,) int64 in a cache (2, slots, P, T, D).

    `each` rows are in neighbouring slots from the `first` on, and so are the next ones.
    """
    rows, heads, width = pairs.shape
    pitch, *steps = pairs.stride()
    _, slots, own, room, _ = cache.shape
    assert steps == [width, 1] and positions.is_contiguous() and cache.is_contiguous() and heads == 2 * own
    assert len(positions) == rows and first + each <= slots
    numbers = positions.data_ptr(), pairs.data_ptr(), cache.data_ptr()
    sizes = own, room, pitch * pairs.itemsize, width * pairs.itemsize
    _do("put", arguments.Put(*numbers, rows, each, first, slots, *sizes))


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Seen, scale: float, mixed: Tensor | None = None) -> Tensor:
    """softmax(scale q k + bias) v: q (B, H, D), k (B * P, D, T), v (B * P, T, D) → (B, H, D), into `mixed` if given.

    A place's key, and its value, are D numbers side by side, places follow one another: so the cache's views are.
    """
    rows, heads, width = query.shape
    query_pitch, *inner = query.stride()
    (key_pitch, *keys), (value_pitch, *values) = key.stride(), value.stride()
    pairs, span = key.shape[0] // rows, key.shape[2]
    mixed = empty(query, rows, heads, width) if mixed is None else mixed
    assert inner == [width, 1] and keys == [1, width] and values == [width, 1] and mixed.is_contiguous()
    assert value.shape[1] == seen.span == span
    _do("attend", arguments.Attend(
        query.data_ptr(), key.data_ptr(), value.data_ptr(), seen.at, mixed.data_ptr(),
        rows, pairs, heads // pairs, width, query_pitch, key_pitch, value_pitch, scale, TYPES[query.dtype],
    ))  # fmt: skip
    return mixed
