"""Products with quantized matrices on a CPU: (N, in) → (N, out), in the type that came in.

Not the forms (forms.py). The only file that calls PyTorch's private operators for whole numbers; their results are held
against products with the same matrix in fp32. Whole numbers add up exactly, so a row's result never depends on the
rows beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.quantize.forms import DynamicInt8, Float8, Form, Int4, Int8, unpacked

Product = Callable[[Tensor], Tensor]
FINER = 254
"""Steps of the second part of an activation in one of the first: together they have almost 16 bits."""
ROWS = 64
"""Outputs that the 4-bit kernel packs together, so that packing these and those is packing all."""


def product_of(form: Form) -> Product:
    """The fastest product of a form that keeps what the form promises; LoadError where this processor has none."""
    if isinstance(form, Float8):
        return Floats(form)
    if form.scale.device.type != "cpu":
        return Unrounded(form)
    return FourBits(form) if isinstance(form, Int4) else EightBits(form)


class Unrounded:
    """Whole numbers made plain for each product, on a device whose operators for them this engine does not call.

    It saves the memory, and no time.
    """

    def __init__(self, form: Form) -> None:
        self._form = form

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._form.dense().to(x.dtype))


class Floats:
    """8-bit floats times activations in 8-bit floats, each row with a scale of its own, summed in fp32.

    PyTorch's product takes one scale for each side, so that those of rows and outputs are applied to the sums. Its
    sides are whole sixteens; what is missing is filled with zeros. GPUs have it from Ada on, and processors for tests.
    """

    def __init__(self, form: Float8) -> None:
        self._outputs, self._extra = form.shape[0], -form.shape[1] % 16
        numbers = F.pad(form.levels.view(torch.uint8), (0, self._extra, 0, -self._outputs % 16))  # a byte 0 is 0.0
        self._weight, self._scale = numbers.view(form.levels.dtype).t(), form.scale
        self._one = torch.ones((), device=form.scale.device)

    def __call__(self, x: Tensor) -> Tensor:
        kind = self._weight.dtype
        top = x.abs().amax(1, keepdim=True).float().clamp_(min=1e-30).div_(torch.finfo(kind).max)
        levels = (x / top).to(kind)  # in fp32: from bf16 the largest could round to what is none
        if self._extra:
            levels = F.pad(levels.view(torch.uint8), (0, self._extra)).view(kind)
        product = torch._scaled_mm(levels, self._weight, self._one, self._one, out_dtype=torch.float32)
        return product[:, : self._outputs].mul_(top).mul_(self._scale).to(x.dtype)


class EightBits:
    """int8 weights times activations in whole numbers, each row with a scale of its own.

    Int8: activations in two parts, the second for what the first leaves over, as exact as with bf16 ones or better.
    DynamicInt8: in one part, 8 bits.
    """

    def __init__(self, form: Int8) -> None:
        if not torch.cpu._is_vnni_supported():
            raise LoadError(
                "this processor has no AVX-512 VNNI, without which sums of 8-bit products overflow; "
                "set 'quantize' to 'int4' or 'none', or take a newer one"
            )
        scale = form.scale.double()
        with warnings.catch_warnings():  # deprecated in 2.13 without a successor that is as fast; the version is pinned
            warnings.simplefilter("ignore")
            levels = torch._make_per_channel_quantized_tensor(
                form.levels.contiguous(),
                scale.masked_fill(scale == 0, 1),
                torch.zeros(len(scale), dtype=torch.int64),
                0,
            )
            self._weight = torch.ops.quantized.linear_prepack(levels, None)
        self._product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
        self._parts = 1 if isinstance(form, DynamicInt8) else 2
        self._outputs = len(scale)

    def __call__(self, x: Tensor) -> Tensor:
        top = torch.linalg.vector_norm(x, torch.inf, 1, keepdim=True, dtype=torch.float32).clamp_(min=1e-30).div_(127)
        levels = x / top  # fp32, up to 127
        if self._parts == 1:
            return self._multiply(levels).mul_(top).to(x.dtype)
        both = levels.new_empty(2, *x.shape)
        torch.round(levels, out=both[0])
        torch.sub(levels, both[0], out=both[1]).mul_(FINER)
        coarse, fine = self._multiply(both.flatten(0, 1)).view(2, len(x), self._outputs)
        return torch.add(coarse, fine, alpha=1 / FINER).mul_(top).to(x.dtype)

    def _multiply(self, levels: Tensor) -> Tensor:
        """Rounds to whole numbers of -127..127 on the way."""
        product: Tensor = self._product(levels, 1.0, 128, self._weight)
        return product


class FourBits:
    """int4 weights in groups, times activations in bf16."""

    def __init__(self, form: Int4) -> None:
        self._outputs, self._group = form.shape[0], form.group
        extra = -self._outputs % 16
        levels = F.pad(form.levels, (0, 0, 0, extra))
        pack = torch.ops.aten._convert_weight_to_int4pack_for_cpu.default
        parts = [pack(unpacked(some).int(), 1) for some in torch.split(levels, ROWS * 4)]
        self._weight = torch.cat(parts)
        both = torch.stack([form.scale, form.middle], 2).transpose(0, 1)  # (groups, out, 2)
        self._scales = F.pad(both, (0, 0, 0, extra)).contiguous()
        self._product = torch.ops.aten._weight_int4pack_mm_for_cpu.default

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = self._product(x.bfloat16(), self._weight, self._group, self._scales)
        return product[:, : self._outputs].to(x.dtype).contiguous()
