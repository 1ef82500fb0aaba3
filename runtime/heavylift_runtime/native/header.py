"""The header of a safetensors file, parsed and proved: every tensor lies where it says, and nothing else is there.

Not the reading of tensors. The format (https://huggingface.co/docs/safetensors): 8 bytes of length, little-endian;
JSON; the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.sources import Source, whole

SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
"""Bytes of one number, by the format's name of its type."""

LIMIT = 100_000_000
"""Bytes of a header; the format's own reader allows no more."""


@dataclass(frozen=True)
class Stored:
    """One tensor as a file holds it: little-endian, from byte `start` of `file`."""

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    strides: tuple[int, ...] | None = None
    """Numbers from one element to the next of each dimension, no two at one place; None: row-major."""

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The strides, whatever they are."""
        if self.strides is not None:
            return self.strides
        return tuple(prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))

    def viewed(self, shape: tuple[int, ...]) -> Stored:
        """The same numbers where one dimension is seen as two."""
        if shape == self.shape:
            return self
        differs = (axis for axis, size in enumerate(self.shape) if size != shape[axis])
        at = next(differs, len(self.shape) - 1)
        assert shape == (*self.shape[:at], *shape[at : at + 2], *self.shape[at + 1 :]) and prod(shape) == prod(
            self.shape
        )
        steps = self.steps
        return replace(self, shape=shape, strides=(*steps[:at], steps[at] * shape[at + 1], *steps[at:]))

    @property
    def item(self) -> int:
        """Bytes of one number."""
        return SIZES[self.dtype]

    @cached_property
    def bytes(self) -> int:
        return prod(self.shape) * self.item


def read_header(source: Source, file: str, size: int) -> dict[str, Stored]:
    """The tensors of one file of `size` bytes, by name; LoadError names every fault of the file."""
    if size < 8:
        raise LoadError(f"{source.place} {file}: {size} bytes are no safetensors file; it is truncated")
    length = int.from_bytes(whole(source, file, 8), "little")
    if length > LIMIT:
        raise LoadError(f"{file}: its header claims {length} bytes, more than the {LIMIT} allowed; it is corrupt")
    if 8 + length > size:
        raise LoadError(f"{file}: has {size} bytes, its header alone needs {8 + length}; it is truncated")
    content = bytearray(length)
    source.read_into(file, 8, memoryview(content))
    try:
        table = json.loads(content, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{file}: its header is not readable JSON ({error}); it is corrupt") from error
    if not isinstance(table, dict):
        raise LoadError(f"{file}: its header is a {type(table).__name__}, not an object; it is corrupt")
    table.pop("__metadata__", None)

    faults: list[str] = []
    found = [stored for name, entry in table.items() if (stored := _stored(file, name, entry, 8 + length, faults))]
    if not faults:
        faults = _layout_faults(file, found, 8 + length, size)
    if faults:
        raise LoadError("\n".join(faults))
    return {stored.name: stored for stored in found}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return table


def _stored(file: str, name: str, entry: object, base: int, faults: list[str]) -> Stored | None:
    """One entry, or None and a fault."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]} if all(
            type(size) is int and size >= 0 for size in shape
        ):
            pass
        case _:
            faults.append(f"{file}: tensor {name!r} has no dtype, shape and data_offsets; it is corrupt")
            return None
    if dtype not in SIZES:
        faults.append(f"{file}: tensor {name!r} has dtype {dtype!r}; known are {', '.join(SIZES)}")
        return None
    stored = Stored(file, name, dtype, tuple(shape), base + start)
    if stop - start != stored.bytes:
        span = f"needs {stored.bytes} bytes, its offsets span {stop - start}"
        faults.append(f"{file}: tensor {name!r} of {dtype} {list(shape)} {span}")
    return stored


def _layout_faults(file: str, found: list[Stored], base: int, size: int) -> list[str]:
    """Tensors must follow one another without gap or overlap from the header to the file's end."""
    end = base
    for stored in sorted(found, key=lambda stored: (stored.start, stored.bytes)):
        if stored.start != end:
            return [f"{file}: tensor {stored.name!r} begins at byte {stored.start}, not {end}: a gap or an overlap"]
        end += stored.bytes
    if end != size:
        what = "it is truncated" if end > size else "something follows the last tensor"
        return [f"{file}: has {size} bytes, its tensors end at byte {end}: {what}"]
    return []


def index_of(content: bytes, file: str, suffix: str = ".safetensors") -> Mapping[str, str]:
    """`weight_map` of an index: tensor → file, each a plain name that ends with `suffix`, beside the index."""
    try:
        names = json.loads(content)["weight_map"]
        assert isinstance(names, dict)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise LoadError(f"{file}: has no readable 'weight_map'; it is corrupt") from error
    for name, target in names.items():
        if not isinstance(target, str) or not target.endswith(suffix) or "/" in target or "\\" in target:
            raise LoadError(f"{file}: tensor {name!r} is in {target!r}; it must be a *{suffix} file beside the index")
    return names
