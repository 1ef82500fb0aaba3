"""Files that are written whole or not at all, and hashed on their way; and their folder, for one writer at a time.

Not the content: partition.py.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from heavylift_runtime.errors import OptionsError
from heavylift_runtime.native.partitioned import MANIFEST, File

ENDING = ".unfinished"
UNFINISHED = MANIFEST + ENDING
"""It is there from the first moment to the last: what lies beside it is ours, and may be written again."""


@contextmanager
def folder(out: Path, names: Set[str]) -> Iterator[None]:
    """Holds the folder `out`, made where it is not there, for files of these `names`.

    OptionsError where it is in use, finished, or holds what no unfinished run left there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        held = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise OptionsError(f"--out {out}: cannot be made a folder: {error.strerror}") from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OptionsError(f"--out {out}: another process writes there; wait for it, or name another") from error
        there = sorted(path.name for path in out.iterdir())
        if MANIFEST in there:
            raise OptionsError(f"--out {out}: holds a partition already; name another folder, or remove this one")
        if there and UNFINISHED not in there:
            raise OptionsError(f"--out {out}: holds {there[0]!r}; name an empty folder")
        (out / UNFINISHED).touch()
        for name in there:
            if name.removesuffix(ENDING) in names or fnmatch(name, "rank-*-of-*.safetensors*"):
                (out / name).unlink()
        yield
        os.fsync(held)
    finally:
        os.close(held)


def check_room(out: Path, size: int) -> None:
    """OptionsError where the disk has no room for so many bytes."""
    free = shutil.disk_usage(out).free
    if free < size:
        raise OptionsError(f"--out {out}: needs {size / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; name another disk")


class Written:
    """A file on its way; it has its name only once it is finished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path.with_name(path.name + ENDING), "wb", buffering=0)  # noqa: SIM115 - closed by this class's own exit
        self._sha256, self._size = hashlib.sha256(), 0

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *_: object) -> None:
        """Removes what was not finished."""
        self._file.close()
        with suppress(FileNotFoundError):
            os.unlink(self._file.name)

    def write(self, content: memoryview | bytes) -> None:
        rest = memoryview(content)
        self._sha256.update(rest)
        self._size += len(rest)
        while rest:
            rest = rest[self._file.write(rest) :]

    def finish(self) -> File:
        """On the disk, under its name."""
        os.fsync(self._file.fileno())
        self._file.close()
        os.rename(self._file.name, self._path)
        return File(self._path.name, self._size, self._sha256.hexdigest())
