"""Where a checkpoint's bytes come from: what a source promises, and the local folder. Reads ranges; writes nothing.

Not a parser: header.py and checkpoint.py know what the bytes mean. S3 is s3.py.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Protocol

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native import mapped

MOST = 1024
"""Buffers of one call: IOV_MAX of Linux."""
WINDOW = 1024 * 1024
"""Bytes that the kernel is told to read ahead at once; of more it may take no notice."""


class Source(Protocol):
    """The files of one checkpoint, by their name relative to it."""

    place: str
    """For messages."""
    readers: int
    """How many reads at once pay off."""
    block: int
    """Bytes of the file that one read spans at most, or one row of it where that is longer."""
    cast: int
    """The same of numbers that are cast on their way: so much memory each reader needs for them."""
    pieces: bool
    """Whether many small reads cost no more than their bytes; if not, a rank alone rather reads whole rows."""
    revision: str | None
    """Which version is read, where it has a name: `owner/name@commit`."""

    def files(self) -> dict[str, int]:
        """Name → size in bytes."""

    def version(self, name: str) -> str | None:
        """What tells the file that is read from one of the same name before or after it, where there is such."""

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        """Fill the buffers, one after the other, from byte `start` of file `name`; LoadError where that fails."""

    def read_rows(self, name: str, start: int, pitch: int, width: int, buffer: memoryview) -> None:
        """Fill `buffer` with pieces of `width` bytes that lie `pitch` bytes apart, the first one at byte `start`."""

    def ahead(self, name: str, start: int, size: int) -> None:
        """These bytes will be asked for soon; called on a reader's thread, which may wait for them."""


class Folder:
    """A checkpoint on a local disk. Nothing stays mapped: a file cut short is an error, not a SIGBUS."""

    readers, block, cast, pieces = 1, 8 * 1024 * 1024, 8 * 1024 * 1024, True
    revision: str | None = None

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path, self._open = path, _Open()

    def files(self) -> dict[str, int]:
        try:
            return {path.relative_to(self._path).as_posix(): path.stat().st_size for path in self._walk()}
        except OSError as error:
            raise LoadError(f"{self._path}: cannot list the model's folder: {error.strerror}") from error

    def version(self, name: str) -> str | None:
        return None

    def _walk(self) -> Iterator[Path]:
        def refuse(error: OSError) -> None:
            raise error

        for folder, _, names in os.walk(self._path, onerror=refuse):
            yield from (Path(folder, name) for name in names)

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        with self._opened(name) as file:
            self._fill(file, start, [buffer for buffer in buffers if len(buffer)])

    def read_rows(self, name: str, start: int, pitch: int, width: int, buffer: memoryview) -> None:
        """Each piece for itself: of a row-split weight, no rank reads the others' columns."""
        if pitch == width or len(buffer) <= width:
            return self.read_into(name, start, buffer)
        with self._opened(name) as file:
            if mapped.copied(file.fileno(), start, pitch, width, buffer):
                return
            for place in range(len(buffer) // width):
                self._fill(file, start + place * pitch, [buffer[place * width : (place + 1) * width]])

    def ahead(self, name: str, start: int, size: int) -> None:
        """Waits for them where it can be waited for; else the kernel is told, in ranges of which it takes notice."""
        with suppress(OSError, LoadError), self._opened(name) as file:  # the read itself will say it
            if not mapped.near(file.fileno(), start, size):
                for offset in range(start, start + size, WINDOW):
                    length = min(WINDOW, start + size - offset)
                    os.posix_fadvise(file.fileno(), offset, length, os.POSIX_FADV_WILLNEED)

    @contextmanager
    def _opened(self, name: str) -> Iterator[FileIO]:
        """A file, which stays open: the kernel reads ahead, in ever larger pieces, for who goes on in an open one."""
        try:
            if name not in self._open.file:
                self._open.file.clear()
                self._open.file[name] = open(self._path / name, "rb", buffering=0)  # noqa: SIM115
            yield self._open.file[name]
        except OSError as error:
            raise LoadError(f"{self._path / name}: cannot be read: {error.strerror}") from error

    def _fill(self, file: FileIO, start: int, buffers: list[memoryview]) -> None:
        while buffers:
            count = os.preadv(file.fileno(), buffers[:MOST], start)
            if count == 0:
                end = start + sum(map(len, buffers))
                raise LoadError(f"{file.name}: ends at byte {start}, before byte {end}; copy it again")
            start += count
            buffers = behind(buffers, count)


class _Open(threading.local):
    """The file that a thread reads, by its name."""

    def __init__(self) -> None:
        self.file = _File()


class _File(dict[str, FileIO]):
    """Closed for another one, when the thread ends, or when nobody reads any more."""

    def clear(self) -> None:
        for file in self.values():
            file.close()
        super().clear()

    def __del__(self) -> None:
        self.clear()


class Remote(ABC):
    """What sources behind a network have in common: a read costs a request, and many at once pay off."""

    readers, block, cast, pieces = 8, 8 * 1024 * 1024, 8 * 1024 * 1024, False
    revision: str | None = None

    def version(self, name: str) -> str | None:
        """That of all files."""
        return self.revision

    @abstractmethod
    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        """As a Source's."""

    def read_rows(self, name: str, start: int, pitch: int, width: int, buffer: memoryview) -> None:
        """One request for all pieces and what lies between them: a request for each would take longer."""
        count = len(buffer) // width
        if count == 1 or pitch == width:
            return self.read_into(name, start, buffer)
        span = memoryview(bytearray((count - 1) * pitch + width))
        self.read_into(name, start, span)
        for place in range(count):
            buffer[place * width : (place + 1) * width] = span[place * pitch : place * pitch + width]

    def ahead(self, name: str, start: int, size: int) -> None:  # noqa: B027  # whole as it is
        """Nothing: readers are ahead themselves."""


def source_of(model_id: str | None, model_dir: Path, revision: str | None = None) -> Source:
    """What `option.model_id` names: nothing (the model folder itself), an S3 prefix, a local folder, a model's id.

    `revision`: of a model on the hub, where its id does not name one; what lies elsewhere has none.
    """
    if model_id is None:
        return Folder(model_dir)
    if model_id.startswith("s3://"):
        from heavylift_runtime.native.s3 import Prefix  # and boto3

        return Prefix.at(model_id)
    folder = Path(model_id)
    folder = folder if folder.is_absolute() else model_dir / folder
    if folder.is_dir():
        return Folder(folder)
    from heavylift_runtime.native.hub import ID, Hub

    if (named := ID.fullmatch(model_id)) is not None:
        if named["revision"] is not None and revision not in (None, named["revision"]):
            raise LoadError(f"'model_id' is {model_id!r} and 'revision' is {revision!r}; leave one of the two out")
        return Hub(named["id"], named["revision"] or revision or "main")
    raise LoadError(
        f"'model_id' is {model_id!r}; the native engine loads s3://bucket/prefix/, an existing local folder, or "
        "owner/name of the Hugging Face hub (owner/name@revision)"
    )


def behind(buffers: list[memoryview], count: int) -> list[memoryview]:
    """What of the buffers is not yet filled after so many bytes: a read may be cut by a signal, or by its size."""
    for place, buffer in enumerate(buffers):
        if count < len(buffer):
            return [buffer[count:], *buffers[place + 1 :]]
        count -= len(buffer)
    return []


def whole(source: Source, name: str, size: int) -> bytes:
    """A small file, read at once."""
    content = bytearray(size)
    source.read_into(name, 0, memoryview(content))
    return bytes(content)
