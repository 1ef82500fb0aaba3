"""From the tensors that stand for a quantized matrix to its form, and from numbers to the form that is asked for.

Not their names and shapes (families/packing.py), and no file is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.packing import EACH, GROUP, GROUPS, Eight, Four, Packing, Published
from heavylift_runtime.families.table import Weight
from heavylift_runtime.native.quantize.forms import DynamicInt8, Float8, Form, Int4, Int8, packed
from heavylift_runtime.native.quantize.rounding import float8_of, int4_of, int8_of

PACKINGS: dict[str, Packing] = {
    "int8": Eight(),
    "dynamic_int8": Eight(),
    "int4": Four(),
    "fp8": Eight("fp8", "F8_E4M3"),
}
"""What plain numbers can be made while they are read → how it lies in files."""
AWQ = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where AWQ's neighbouring outputs lie in a 32-bit number, in fours of bits."""
OUTPUTS = 256
"""Outputs that are unpacked at once."""


def outputs_first(weight: Weight, part: Tensor) -> Tensor:
    """A part of a matrix in its shard's shape as (out, in); fused ones one after another."""
    if weight.fused > 1:
        return part.flatten(1).t() if weight.transposed else part.flatten(0, 1)
    return part.t() if weight.transposed else part


def rounded(quantize: str, weight: Weight, part: Tensor) -> Form:
    """A rank's part, (out, in), as `quantize` wants it; int8 where int4 cannot be, as Four.stored says."""
    if quantize == "int4" and not weight.head and part.shape[1] % GROUP == 0:
        return int4_of(part, GROUP)
    if quantize == "fp8":
        return float8_of(part)
    return int8_of(part) if quantize != "dynamic_int8" else DynamicInt8(*_fields(int8_of(part)))


def form_of(packing: Packing, stored: Sequence[Weight], tensors: Sequence[Tensor], *, dynamic: bool = False) -> Form:
    """The form that a rank's parts of the stored tensors are."""
    parts = [
        outputs_first(weight, part) if len(weight.shape) > 1 else part.flatten()
        for weight, part in zip(stored, tensors, strict=True)
    ]
    if isinstance(packing, Published):
        return _published(packing, stored[0].name, parts)
    if parts[0].dtype == torch.float8_e4m3fn:
        return Float8(*parts)
    if len(parts) == 2:
        return (DynamicInt8 if dynamic else Int8)(*parts)
    return Int4(*parts)


def _published(packing: Published, name: str, tensors: list[Tensor]) -> Int4:
    """From qweight, qzeros, scales, each with its outputs first, and g_idx where there is one."""
    qweight, qzeros, scales, *order = tensors
    group = qweight.shape[1] * (EACH if packing.along_inputs else 1) // scales.shape[1]
    if order and not torch.equal(order[0] - order[0][0], (torch.arange(len(order[0])) // group).int()):
        raise LoadError(f"{name}: its groups are of inputs that lie apart ('desc_act'); the kernel cannot read them")
    levels = torch.cat([packed(part) for part in _levels(packing, qweight)])
    zeros = _nibbles(qzeros.t(), AWQ if packing.name == "awq" else None).t() + packing.offset
    fitting = next((size for size in reversed(GROUPS) if group % size == 0), None)
    if fitting is None:
        raise LoadError(f"{name}: its groups have {group} inputs; the kernel reads {', '.join(map(str, GROUPS))}")
    scale = scales.float()
    middle = (8 - zeros) * scale
    return Int4(levels, *(part.repeat_interleave(group // fitting, 1).bfloat16() for part in (scale, middle)))


def _levels(packing: Published, qweight: Tensor) -> Iterator[Tensor]:
    """(out / x, in / y) int32 → parts of (out, in), some outputs at a time so that little memory is taken."""
    for some in torch.split(qweight, OUTPUTS if packing.along_inputs else OUTPUTS // EACH):
        yield _nibbles(some, None) if packing.along_inputs else _nibbles(some.t(), AWQ).t()


def _nibbles(numbers: Tensor, order: Sequence[int] | None) -> Tensor:
    """(R, C) int32 → (R, 8 * C) int32 of 0..15: the lowest four bits first, or where `order` says."""
    shifts = torch.tensor(range(EACH) if order is None else order, dtype=torch.int32) * 4
    return (numbers.unsqueeze(2) >> shifts).bitwise_and_(15).flatten(1)


def _fields(form: Int8) -> tuple[Tensor, ...]:
    return form.levels, form.scale
