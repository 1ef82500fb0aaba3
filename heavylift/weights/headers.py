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

LARGEST_HEADER = 100_000_000  # bytes, the format's own limit
DTYPES = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "I8": "int8", "U8": "uint8", "F8_E4M3": "fp8"}
ZIP_START = b"PK\x03\x04"
ZIP_END, ZIP_END_BYTES = b"PK\x05\x06", 22  # the record that ends a zip archive, written by torch without a comment


@dataclass(frozen=True)
class Headers:
    """`dtype` is the one that most bytes have; `parameters` counts each tensor name once."""

    dtype: str | None
    parameters: int | None


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
    if not entries:
        return Headers(None, None)
    shares: Counter[str] = Counter()
    for entry in entries.values():
        shares[entry["dtype"]] += prod(entry["shape"])
    common = shares.most_common(1)[0][0]
    return Headers(DTYPES.get(common, common.lower()), sum(shares.values()))


def _safetensors(store: Store, name: str, size: int) -> dict[str, dict[str, Any]]:
    title = f"{store.title.rstrip('/')}/{name}"
    length = int.from_bytes(_head(store, name, 8), "little")
    if size < 8 or length > LARGEST_HEADER:
        raise InputError(f"{title} is not a safetensors file (or a Git LFS pointer to one): download it again")
    try:
        header = json.loads(_head(store, name, 8 + length)[8:])
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        sound = all(isinstance(entry["dtype"], str) and prod(entry["shape"]) >= 0 for entry in header.values())
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        if size < 8 + length:
            raise InputError(f"{title} is truncated in its header: it has {size} bytes; download it again") from error
        raise InputError(f"{title} has a damaged safetensors header: download it again") from error
    if not sound or size != 8 + length + end:
        is_what = "truncated" if size < 8 + length + end else "damaged"
        raise InputError(f"{title} is {is_what}: its header describes {8 + length + end} bytes, it has {size}")
    return dict(header)


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
        shards = set(named.values())
        places = list(named.items())
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
