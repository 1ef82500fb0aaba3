"""How files hold a quantized matrix: which tensors stand for it, their shapes, types and how they are split over ranks.

Not what they mean (native/quantize/), and no torch. Published: GPTQ (Frantar et al. 2022) as AutoGPTQ and GPTQModel
write it, AWQ (Lin et al. 2023) as AutoAWQ writes it ("gemm"). Partitioned ahead of time: our own int8 and int4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from heavylift_runtime.errors import LoadError
from heavylift_runtime.families.fields import Fields
from heavylift_runtime.families.table import FLOATS, Split, Weight

GROUP = 32
"""Inputs of our own int4's groups: half a bit for each weight, and the least error of the sizes that the kernel has."""
GROUPS = (32, 64, 128, 256)
"""Those sizes."""
EACH = 8
"""Four-bit numbers in a 32-bit one."""


class Packing(Protocol):
    """A way of holding matrices."""

    @property
    def name(self) -> str:
        """As `quantize` in options."""

    def stored(self, weight: Weight, world: int) -> tuple[Weight, ...]:
        """The tensors that stand for a matrix; LoadError where it cannot be split over so many ranks."""


@dataclass(frozen=True)
class Eight:
    """Levels (out, in) and a scale for each output."""

    name: str = "int8"
    levels: str = "I8"
    """safetensors' name of the type of the levels."""

    def stored(self, weight: Weight, world: int) -> tuple[Weight, ...]:
        levels = _outputs_first(weight, "levels", weight.inputs, (self.levels,))
        scale = replace(levels, name=f"{weight.name}.scale", shape=levels.shape[:1], types=("F32",))
        # each rank's part of an output's inputs has a scale of its own
        return levels, replace(scale, split=Split.WHOLE, unit=1) if weight.split is Split.ROW else scale


@dataclass(frozen=True)
class Four:
    """Levels (out, in / 2), scale and middle (out, groups); Eight where the inputs are no whole groups, and heads."""

    name: str = "int4"

    def stored(self, weight: Weight, world: int) -> tuple[Weight, ...]:
        inputs = weight.inputs // (world if weight.split is Split.ROW else 1)
        if weight.head or inputs % GROUP:
            return Eight().stored(weight, world)
        return (
            _outputs_first(weight, "levels", weight.inputs // 2, ("U8",)),
            *(_outputs_first(weight, name, weight.inputs // GROUP, ("BF16",)) for name in ("scale", "middle")),
        )


@dataclass(frozen=True)
class Published:
    """GPTQ's and AWQ's layout: everything (in, out), eight numbers of four bits in a 32-bit one."""

    name: str
    group: int
    along_inputs: bool
    """GPTQ packs neighbouring inputs, AWQ neighbouring outputs."""
    ordered: bool
    """Each input's group is written down (GPTQ's g_idx)."""
    offset: int
    """Added to a stored zero: the first GPTQ format wrote one less."""

    def stored(self, weight: Weight, world: int) -> tuple[Weight, ...]:
        inputs, outputs = weight.inputs, weight.outputs
        group = inputs if self.group < 0 else self.group
        row = weight.split is Split.ROW
        if inputs % group or (row and inputs % (world * group)):
            ranks = f" on each of {world} ranks" if row else ""
            raise LoadError(
                f"{weight.name}: its {inputs} inputs are no whole groups of {group}{ranks}; use fewer ranks"
            )
        even = weight.unit % EACH == 0 or (outputs % (world * EACH) == 0 and not weight.replicated)
        if outputs % EACH or not (row or even):
            raise LoadError(f"{weight.name}: its {outputs} outputs cannot be split in eights over {world} ranks")
        across = EACH if self.along_inputs else 1
        packed = (inputs // across, outputs * across // EACH)
        found = [
            _inputs_first(weight, "qweight", packed, ("I32",)),
            _inputs_first(weight, "qzeros", (inputs // group, outputs // EACH), ("I32",)),
            _inputs_first(weight, "scales", (inputs // group, outputs), FLOATS),
        ]
        if self.ordered:
            split = Split.COLUMN if row else Split.WHOLE  # dimension 0: the inputs
            name = _renamed(weight.name, "g_idx")
            copies = tuple(_renamed(copy, "g_idx") for copy in weight.copies)
            found.append(Weight(name, (inputs,), split, copies=copies, types=("I32",)))
        return tuple(found)


def packing_of(config: Mapping[str, Any]) -> Published | None:
    """From config.json's `quantization_config`; None without one, LoadError with every fault at once."""
    said = config.get("quantization_config")
    if said is None:
        return None
    if not isinstance(said, Mapping):
        raise LoadError(f"config.json: 'quantization_config' is {said!r}; it must be an object")
    fields = Fields(said, {"checkpoint_format": "gptq", "version": "gemm", "zero_point": True})
    method = fields.choice("quant_method", {"gptq": "gptq", "awq": "awq"})
    bits, group = fields.whole("bits"), fields.given("group_size")
    if bits != 4:
        fields.refuse("bits", "only 4 bits are known")
    if group != -1 and group not in GROUPS:
        fields.refuse("group_size", f"known are {', '.join(map(str, GROUPS))}")
    offset = 0
    if method == "gptq":
        offset = fields.choice("checkpoint_format", {"gptq": 1, "gptq_v2": 0})
    else:
        fields.only("version", "gemm", "only 'gemm' is known")
        fields.only("zero_point", True, "only true is known")
    fields.faults = [f"{fault} (in 'quantization_config')" for fault in fields.faults]
    fields.prove()
    return Published(method, group, method == "gptq", method == "gptq", offset)


def _renamed(name: str, ending: str) -> str:
    return f"{name.removesuffix('.weight')}.{ending}"


def _inputs_first(weight: Weight, ending: str, shape: tuple[int, int], types: tuple[str, ...]) -> Weight:
    """A tensor (in, out) in units of its own, split as the weight is."""
    at = int(weight.split is not Split.ROW)
    whole = (weight.inputs, weight.outputs)[at]
    return replace(
        weight,
        name=_renamed(weight.name, ending),
        copies=tuple(_renamed(copy, ending) for copy in weight.copies),
        shape=shape,
        unit=_unit(weight.unit, shape[at], whole),
        transposed=True,
        types=types,
    )


def _outputs_first(weight: Weight, ending: str, inputs: int, types: tuple[str, ...]) -> Weight:
    """A tensor (out, inputs), split as the weight is; it is in files of ours only, so that it has no other names."""
    unit = _unit(weight.unit, inputs, weight.inputs) if weight.split is Split.ROW else weight.unit
    return replace(
        weight,
        name=f"{weight.name}.{ending}",
        copies=(),
        stand_in=None,
        shape=(weight.outputs, inputs),
        unit=unit,
        transposed=False,
        types=types,
    )


def _unit(unit: int, some: int, whole: int) -> int:
    """A unit of `whole` numbers where there are `some` instead; 1 where its borders are none of theirs (a head of 80 in
    groups of 32): a rank's part is whole groups all the same, or `stored` has refused it."""
    return unit * some // whole if unit * some % whole == 0 else 1
