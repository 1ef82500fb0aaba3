"""What the weight files say of themselves: number format, parameters, and whether they are whole. Not their values.

Source: the safetensors format (https://huggingface.co/docs/safetensors/index): 8 bytes of little-endian header length,
a JSON header, the tensors' bytes without gaps. A `.bin` of torch 1.6 or later is a zip archive; it is never unpickled.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any

from heavylift.errors import InputError
from heavylift.weights.store import Store

LARGEST_TOTAL = 2**50  # bytes; beyond, an index is damaged
LARGEST_HEADER = 100_000_000  # bytes, the format's own limit
DTYPES = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "I8": "int8", "U8": "uint8", "F8_E4M3": "fp8"}
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip
"""Bits of one number, by the format's name of its type."""
ZIP_START = b"PK\x03\x04"
ZIP_END, ZIP_END_BYTES = b"PK\x05\x06", 22  # the record that ends a zip archive, written by torch without a comment


@dataclass(frozen=True)
class Headers:
    """`dtype` is the one that most numbers have; `parameters` counts each tensor name once, `tensor_bytes` likewise.

    An index's `total_size` wins: it is all that a checkpoint of `.bin` files says of itself.
    """

    dtype: str | None
    parameters: int | None
    tensor_bytes: int | None


def read_headers(store: Store, files: dict[str, int]) -> Headers:
    """Raises InputError with every file that is truncated, damaged or missing."""
    faults: list[str] = []
    tensors: dict[str, dict[str, dict[str, Any]]] = {}
    for name in files:
        try:
            if name.endswith(".safetensors"):
                tensors[name] = _safetensors(store, name, files[name])
            elif name.endswith(".bin"):
                tensors[name] = _archive(store, name, files[name])
        except InputError as error:
            faults += error.faults
    damaged = bool(faults)
    for name in files:
        if name.endswith(".index.json"):
            faults += _index_faults(store, name, tensors, damaged)
    if faults:
        raise InputError(faults)
    entries = dict(chain.from_iterable(each.items() for each in tensors.values()))
    total = next((size for name in files if (size := _total_size(store, name)) is not None), None)
    if not entries:
        return Headers(None, None, total)
    shares: Counter[str] = Counter()
    for entry in entries.values():
        shares[entry["dtype"]] += prod(entry["shape"])
    common = shares.most_common(1)[0][0]
    stored = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in entries.values())
    return Headers(DTYPES.get(common, common.lower()), sum(shares.values()), stored if total is None else total)


def _total_size(store: Store, name: str) -> int | None:
    """Bytes of all tensors, as an index says, whose names and shards were proved before."""
    if not name.endswith(".index.json"):
        return None
    metadata = json.loads(b"".join(store.read(name))).get("metadata")
    size = metadata.get("total_size") if isinstance(metadata, dict) else None
    return int(size) if isinstance(size, int | float) and 0 < size < LARGEST_TOTAL else None


def _safetensors(store: Store, name: str, size: int) -> dict[str, dict[str, Any]]:
    title = f"{store.title.rstrip('/')}/{name}"
    length = int.from_bytes(_head(store, name, 8), "little")
    if size < 8 or length > LARGEST_HEADER:
        raise InputError(f"{title} is not a safetensors file (or a Git LFS pointer to one): download it again")
    try:
        header = json.loads(_head(store, name, 8 + length)[8:])
        header.pop("__metadata__", None)
        end = _end(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if size < 8 + length:
            raise InputError(f"{title} is truncated in its header: it has {size} bytes; download it again") from error
        raise InputError(f"{title} has a damaged safetensors header: download it again") from error
    if size != 8 + length + end:
        is_what = "truncated" if size < 8 + length + end else "damaged"
        raise InputError(f"{title} is {is_what}: its header describes {8 + length + end} bytes, it has {size}")
    if not header:
        raise InputError(f"{title} holds no tensors: download it again")
    return dict(header)


def _end(header: dict[str, Any]) -> int:
    """Where the tensors end, which follow one another without gap or overlap; ValueError for one that does not."""
    end = 0
    for entry in sorted(header.values(), key=lambda entry: list(entry["data_offsets"])):
        match entry:
            case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(stop)]}:
                bits = BITS[dtype]
                whole = all(type(size) is int and size >= 0 for size in shape)
                if not whole or start != end or (stop - start) * 8 != prod(shape) * bits:
                    raise ValueError("a tensor is not where its header says")
                end = stop
            case _:
                raise ValueError("a tensor has no dtype, shape and offsets")
    return end


def _archive(store: Store, name: str, size: int) -> dict[str, dict[str, Any]]:
    """A `.bin` tells no shapes without unpickling; only its ends are looked at."""
    end = b"".join(store.read(name, max(0, size - ZIP_END_BYTES)))
    if _head(store, name, 4) != ZIP_START or not end.startswith(ZIP_END):
        title = f"{store.title.rstrip('/')}/{name}"
        raise InputError(f"{title} is truncated, or not a checkpoint that torch 1.6 or later saved: download it again")
    return {}


def _index_faults(store: Store, name: str, tensors: dict[str, dict[str, Any]], damaged: bool) -> list[str]:
    """Every shard that the index names is there, with the tensors that it should hold."""
    title = f"{store.title.rstrip('/')}/{name}"
    try:
        named = json.loads(b"".join(store.read(name)))["weight_map"]
        shards = {shard for shard in named.values() if isinstance(shard, str)}
        places = list(named.items())
        if len(shards) < len(set(named.values())):
            raise TypeError("a shard is no name")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [f"{title} is not an index: it has no 'weight_map' of names"]
    faults = [f"{title} names {shard}, which is missing: download it" for shard in sorted(shards - tensors.keys())]
    if damaged or faults or not name.endswith(".safetensors.index.json"):
        return faults
    lost = [tensor for tensor, shard in places if tensor not in tensors[shard]]
    return [f"{title} names {len(lost)} tensors that its files have not, {lost[0]!r} first"] if lost else []


def _head(store: Store, name: str, size: int) -> bytes:
    """The first `size` bytes, or all."""
    head = b""
    for chunk in store.read(name):
        head += chunk
        if len(head) >= size:
            break
    return head[:size]
