"""The kernels as functions of tensors: what C is told of them, and where its results are.

Not a choice: linear.py, layers.py and cache.py ask `usable`, and else take PyTorch's own.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache

import torch
from torch import Tensor

from heavylift_runtime.native.kernels.library import library
from heavylift_runtime.native.quantize.forms import DynamicInt8, Int8

TYPES = {torch.float32: 0, torch.bfloat16: 1}
"""kernels.h's numbers for what activations may be."""
WHOLE = 2
"""And for weights in whole numbers."""
LONGEST = 2**15
"""Inputs of a weight in whole numbers, at most: so many times 255 * 127 still fit into 32 bits."""
OUTPUTS = 256
"""Whose levels are added at once."""


def usable(tensor: Tensor) -> bool:
    """Whether there are kernels for numbers of this type, here."""
    return tensor.dtype in TYPES and tensor.device.type == "cpu" and library() is not None


class _Matrix(ctypes.Structure):
    """kernels.h's struct matrix."""

    _fields_ = [
        ("weight", c_void_p), ("scale", c_void_p), ("sums", c_void_p), ("bias", c_void_p),
        ("outputs", c_int64), ("inputs", c_int64), ("kind", c_int32), ("parts", c_int32),
    ]  # fmt: skip


class Product:
    """x @ weight.T + bias + base for x (N, in), a weight (out, in) as it is, bias (out,), base (N, out)."""

    def __init__(self, weight: Tensor | Int8, bias: Tensor | None = None) -> None:
        """`weight`: fp32 or bf16, then for activations of the same type; or in whole numbers, for both."""
        found = library()
        assert found is not None
        self._call = found.product
        self._call.argtypes = [c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_int]
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
        self._matrix = _Matrix(numbers, scale, sums_at, under, self._outputs, self._inputs, kind, parts)
        self._at = ctypes.addressof(self._matrix)

    def __call__(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """(N, in) → (N, out), in x's type"""
        rows, inputs = x.shape
        assert inputs == self._inputs, f"{inputs} inputs for a weight of {self._inputs}"
        if not x.is_contiguous():
            x = x.contiguous()
        if base is not None and not base.is_contiguous():
            base = base.contiguous()
        y = x.new_empty(rows, self._outputs)
        under = None if base is None else base.data_ptr()
        if self._call(self._at, x.data_ptr(), rows, under, y.data_ptr(), self._types[x.dtype]):
            raise MemoryError("can't allocate memory for the levels of activations")
        return y


@cache
def _rows() -> ctypes.CDLL:
    """The library, with what the functions of rows.c take."""
    found = library()
    assert found is not None
    found.norm.argtypes = [c_void_p, c_int64, c_int64, c_void_p, c_float, c_void_p, c_int]
    found.norm.restype = None
    found.gate.argtypes = [c_void_p, c_int64, c_int64, c_float, c_float, c_void_p, c_int]
    found.gate.restype = None
    found.turn.argtypes = [c_void_p] + [c_int64] * 5 + [c_void_p, c_void_p, c_int]
    found.turn.restype = None
    found.likeliest.argtypes = [c_void_p, c_int64, c_int64, c_void_p, c_int]
    found.likeliest.restype = None
    found.put.argtypes = [c_void_p, c_int64, c_int64, c_void_p, c_int64, c_int64, c_void_p]
    found.put.restype = None
    found.attend.argtypes = [c_void_p] * 5 + [c_int64] * 8 + [c_float, c_int]
    return found


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x²) + epsilon) * weight: (N, d) → (N, d)"""
    if not x.is_contiguous():
        x = x.contiguous()
    y, (rows, width) = torch.empty_like(x), x.shape
    assert weight.shape[0] == width and weight.dtype == x.dtype
    _rows().norm(x.data_ptr(), rows, width, weight.data_ptr(), epsilon, y.data_ptr(), TYPES[x.dtype])
    return y


def gate(inner: Tensor, slope: float, cubic: float) -> Tensor:
    """a * sigmoid(slope * (a + cubic * a³)) * b, where a and b are the halves of each row: (N, 2 F) → (N, F)"""
    if not inner.is_contiguous():
        inner = inner.contiguous()
    rows, both = inner.shape
    y = inner.new_empty(rows, both // 2)
    _rows().gate(inner.data_ptr(), rows, both // 2, slope, cubic, y.data_ptr(), TYPES[inner.dtype])
    return y


def likeliest(scores: Tensor) -> Tensor:
    """(N, V) → where each row's highest number is, the first of them: (N,) int64"""
    scores = scores.contiguous()
    rows, count = scores.shape
    places = torch.empty(rows, dtype=torch.int64)
    _rows().likeliest(scores.data_ptr(), rows, count, places.data_ptr(), TYPES[scores.dtype])
    return places


def turn_(heads: Tensor, cosines: Tensor, sines: Tensor) -> None:
    """Turns the first R numbers of heads (N, K, D), in place: each with the one R / 2 further on; angles (N, 1, R)."""
    rows, count, width = heads.shape
    pitch, *steps = heads.stride()
    assert steps == [width, 1] and cosines.is_contiguous() and sines.is_contiguous() and cosines.dtype == heads.dtype
    _rows().turn(
        heads.data_ptr(), rows, count, pitch, width, cosines.shape[2], cosines.data_ptr(), sines.data_ptr(),
        TYPES[heads.dtype],
    )  # fmt: skip


def put(places: Tensor, pairs: Tensor, cache: Tensor) -> None:
    """pairs (B, H, D), each row's numbers side by side, to the rows `places` (B, H) int64 of cache (…, D)."""
    rows, heads, width = pairs.shape
    pitch, *steps = pairs.stride()
    assert steps == [width, 1] and places.is_contiguous() and places.shape == (rows, heads)
    item = pairs.itemsize
    _rows().put(
        places.data_ptr(), rows, heads, pairs.data_ptr(), pitch * item, width * item, cache.data_ptr()
    )  # fmt: skip


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> Tensor:
    """softmax(scale q k + bias) v: q (N, G, D), k (N, D, T), v (N, T, D), bias (N, 1 or G, T) → (N, G, D).

    A place's key, and its value, are D numbers side by side, places follow one another: so the cache's views are.
    """
    query = query.contiguous()
    pairs, groups, width = query.shape
    span, mixed = key.shape[2], torch.empty_like(query)
    (key_pitch, *keys), (value_pitch, *values) = key.stride(), value.stride()
    bias_pitch, bias_step, side = bias.stride()
    assert keys == [1, width] and values == [width, 1] and side == 1 and value.shape[1] == bias.shape[2] == span
    if _rows().attend(
        query.data_ptr(), key.data_ptr(), value.data_ptr(), bias.data_ptr(), mixed.data_ptr(),
        pairs, groups, width, span, key_pitch, value_pitch, bias_pitch, bias_step if bias.shape[1] > 1 else 0,
        scale, TYPES[query.dtype],
    ):  # fmt: skip
        raise MemoryError("can't allocate memory for the scores of attention")
    return mixed
