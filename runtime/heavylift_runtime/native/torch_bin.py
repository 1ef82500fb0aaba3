"""The tensors of a PyTorch `.bin`: a zip archive, stored uncompressed, whose pickle says where each tensor lies.

Not the reading of tensors, and nothing is unpickled (pickled.py). Every tensor is a range of the archive, so a rank
reads its own part of it as it would from safetensors. Source: the zip format (PKWARE APPNOTE 4.3), and the layout that
`torch.save` documents (https://docs.pytorch.org/docs/stable/notes/serialization.html): `data.pkl`, `data/<key>`.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.header import SIZES, Stored
from heavylift_runtime.native.pickled import LARGEST, View, table_of
from heavylift_runtime.native.sources import Source, whole

START = b"PK\x03\x04"
LOCAL_HEADER = 30
"""Bytes before an entry's name; then come its name, its padding and its content."""
ENCRYPTED = 0x1
DIRECTORY = 16 * 1024 * 1024
"""Bytes of an archive's directory: some 200,000 entries, and no checkpoint has so many tensors."""


@dataclass(frozen=True)
class Entry:
    """One file of the archive: where its content lies."""

    start: int
    bytes: int


class _Ranges(io.RawIOBase):
    """A file of a source as zipfile wants it: seekable, read in ranges."""

    def __init__(self, source: Source, name: str, size: int) -> None:
        self._source, self._name, self._size, self._at = source, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # typeshed's buffer type has no public name
        if len(view) > DIRECTORY:
            raise LoadError(f"{self._name}: its zip directory has {len(view)} bytes, more than {DIRECTORY} are read")
        count = max(0, min(len(view), self._size - self._at))
        self._source.read_into(self._name, self._at, view[:count])
        self._at += count
        return count


def read_archive(source: Source, file: str, size: int) -> dict[str, Stored]:
    """The tensors of one archive of `size` bytes, by name; LoadError with what is wrong with it."""
    if whole(source, file, min(4, size)) != START:
        what = "is empty" if size == 0 else "is no zip archive: truncated, or written by torch before 1.6"
        raise LoadError(
            f"{file}: {what}; save it again with torch.save, or better as safetensors (older files are pickles whose "
            "tensors cannot be found without running them)"
        )
    entries = _entries(source, file, size)
    roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise LoadError(f"{file}: has {len(roots)} files data.pkl; torch.save writes one")
    order, pickle = entries.get(f"{roots[0]}byteorder"), entries[f"{roots[0]}data.pkl"]
    if order is not None and (order.bytes > 16 or whole_of(source, file, order) != b"little"):
        raise LoadError(f"{file}: its numbers are not little-endian; save it again on another machine")
    if pickle.bytes > LARGEST:
        raise LoadError(f"{file}: its data.pkl has {pickle.bytes} bytes; at most {LARGEST} are read")
    views = table_of(whole_of(source, file, pickle), file)
    faults: list[str] = []
    found = {}
    for name, view in views.items():
        entry = entries.get(f"{roots[0]}data/{view.storage.key}")
        if fault := _fault(view, entry):
            faults.append(f"{file}: tensor {name!r} {fault}")
        elif entry is not None:
            start = entry.start + view.offset * SIZES[view.storage.dtype]
            found[name] = Stored(file, name, view.storage.dtype, view.shape, start, view.strides)
    if faults:
        raise LoadError("\n".join(faults[:20]))
    return found


def whole_of(source: Source, file: str, entry: Entry) -> bytes:
    """An entry's content."""
    content = bytearray(entry.bytes)
    source.read_into(file, entry.start, memoryview(content))
    return bytes(content)


def _fault(view: View, entry: Entry | None) -> str | None:
    """Why a tensor cannot be read in ranges, or None."""
    if entry is None:
        return f"is in data/{view.storage.key[:80]}, which the archive does not have"
    if entry.bytes != view.storage.count * SIZES[view.storage.dtype]:
        return f"is in a storage of {view.storage.count} {view.storage.dtype}, which has {entry.bytes} bytes"
    axes = sorted((stride, size) for stride, size in zip(view.strides, view.shape, strict=True) if size > 1)
    reach = 1
    for stride, size in axes if 0 not in view.shape else ():
        if stride < reach:
            return f"of shape {list(view.shape)} has strides {list(view.strides)}, so numbers of it share a place"
        reach = stride * (size - 1) + reach
    return None


def _entries(source: Source, file: str, size: int) -> dict[str, Entry]:
    """Where each content lies: the directory at the end says where an entry begins, its own header how long that is."""
    try:
        with ZipFile(_Ranges(source, file, size)) as archive:
            listed = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            end = archive.start_dir
    except (BadZipFile, ValueError, OverflowError, NotImplementedError, OSError) as error:
        raise LoadError(f"{file}: is no readable zip archive ({error}); it is truncated or corrupt") from error
    if any(not 0 <= entry.header_offset <= size - LOCAL_HEADER for entry in listed):
        raise LoadError(f"{file}: its zip directory points outside the file; it is truncated or corrupt")
    with ThreadPoolExecutor(source.readers) as pool:
        found = list(pool.map(lambda listed: _entry(source, file, listed), listed))
    nexts = [*(entry.header_offset for entry in listed[1:]), end]
    for info, entry, following in zip(listed, found, nexts, strict=True):
        if entry.start + entry.bytes > following:
            raise LoadError(f"{file}: entry {info.filename[:80]!r} runs into the next one; it is truncated or corrupt")
    entries = {info.filename: entry for info, entry in zip(listed, found, strict=True)}
    if len(entries) != len(found):
        raise LoadError(f"{file}: holds an entry twice; it is corrupt")
    return entries


def _entry(source: Source, file: str, info: ZipInfo) -> Entry:
    """One entry, after its own header is read: the name and padding there may be longer than the directory says."""
    header = bytearray(LOCAL_HEADER)
    source.read_into(file, info.header_offset, memoryview(header))
    if header[:4] != START:
        raise LoadError(f"{file}: entry {info.filename[:80]!r} is not where the directory says; it is corrupt")
    if info.compress_type != ZIP_STORED or info.flag_bits & ENCRYPTED or info.file_size != info.compress_size:
        raise LoadError(
            f"{file}: entry {info.filename[:80]!r} is compressed or encrypted, so that it cannot be read in ranges; "
            "save it again with torch.save"
        )
    behind = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return Entry(info.header_offset + LOCAL_HEADER + behind, info.file_size)
