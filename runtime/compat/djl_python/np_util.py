"""numpy arrays as bytes and back: DJL's NDList format, and numpy's own npz. Not pickles: those are never read.

NDList, all numbers big-endian (DJL's NDSerializer, version 3): i32 count; then for each array the text "NDAR", i32
version, u8 whether it has a name (a text), the text "default" (not sparse), the type's name as a text, i32 rank and as
many i64, i32 length of the layout and as many 2-byte characters, u8 byte order, i32 size in bytes, the bytes. A text is
an i16 length and UTF-8.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MAGIC = "NDAR"
_VERSION = 3
_MOST_AXES = 64  # numpy's own limit
_JAVA = {"bool": "BOOLEAN"}  # DJL's names that are not numpy's in capitals
_ORDERS: Mapping[bytes, Literal["<", ">", "|"]] = {b"<": "<", b">": ">", b"=": "<", b"|": "|"}


def to_nd_list(np_list: Any) -> bytes:
    """The NDList of an array, or of a list of them."""
    arrays = _several(np_list)
    encoded = [struct.pack(">i", len(arrays))]
    for each in arrays:
        array = np.asarray(each)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"an NDList holds numbers: got an array of {array.dtype}")
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        name = _JAVA.get(array.dtype.name, array.dtype.name.upper())
        encoded += [_text(_MAGIC), struct.pack(">iB", _VERSION, 0), _text("default"), _text(name)]
        encoded.append(struct.pack(f">i{array.ndim}q", array.ndim, *array.shape))
        encoded.append(struct.pack(">i", array.ndim) + "?".encode("utf-16-be") * array.ndim)
        encoded.append(struct.pack(">ci", b"<", len(data)) + data)
    return b"".join(encoded)


def from_nd_list(encoded: bytes | bytearray) -> list[NDArray[Any]]:
    """The arrays of an NDList, or of an npz file (a zip: it begins with PK); raises ValueError where it is neither."""
    if bytes(encoded[:2]) == b"PK":
        return from_npz(encoded)
    reader = _Reader(bytes(encoded))
    count = reader.number(">i")
    arrays = [_array(reader) for _ in range(count)]
    if reader.left:
        raise ValueError(f"an NDList of {count} arrays is followed by {reader.left} bytes")
    return arrays


def to_npz(np_list: Any) -> bytes:
    """The npz file of an array, or of a list of them, named arr_0, arr_1 …"""
    file = io.BytesIO()
    np.savez(file, *_several(np_list))
    return file.getvalue()


def from_npz(encoded: bytes | bytearray) -> list[NDArray[Any]]:
    """The arrays of an npz file in its order; raises ValueError for objects, which would have to be unpickled."""
    with np.load(io.BytesIO(bytes(encoded)), allow_pickle=False) as file:
        return [file[name] for name in file.files]


def _several(np_list: Any) -> Sequence[ArrayLike]:
    return np_list if isinstance(np_list, list | tuple) else [np_list]


def _array(reader: _Reader) -> NDArray[Any]:
    if (magic := reader.text()) != _MAGIC or (version := reader.number(">i")) != _VERSION:
        raise ValueError(f"no array of NDList version {_VERSION}: it begins with {magic!r}")
    del version
    if reader.number(">B") == 1:
        reader.text()  # its name
    if (kind := reader.text()) != "default":
        raise ValueError(f"an NDList's array must not be sparse: got {kind!r}")
    name = reader.text().lower()
    rank = reader.number(">i")
    if not 0 <= rank <= _MOST_AXES:
        raise ValueError(f"an NDList's array has {rank} axes: at most {_MOST_AXES}")
    shape = [reader.number(">q") for _ in range(rank)]
    reader.take(2 * reader.number(">i"))  # the layout
    order = reader.take(1)
    data = reader.take(reader.number(">i"))
    try:
        dtype = np.dtype("bool" if name == "boolean" else name).newbyteorder(_ORDERS[order])
        return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))
    except (TypeError, KeyError) as error:
        raise ValueError(f"an NDList's array has the type {name!r} in byte order {order!r}") from error


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


class _Reader:
    """Takes bytes from the front; ValueError where there are not as many."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise ValueError(f"an NDList ends early: {count} bytes are missing at byte {self._at}")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, form: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def text(self) -> str:
        return self.take(self.number(">h")).decode()
