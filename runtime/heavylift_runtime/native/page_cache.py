"""What of a file the kernel's page cache holds, and how to read past it: mincore(2), and O_DIRECT of open(2).

Not a source (sources.py). Whatever does not work here - a file system without O_DIRECT, a file of somebody else's - is
no fault: the ordinary way reads it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from heavylift_runtime.native.heap import libc

Bytes = npt.NDArray[np.uint8]
SECTOR = 4096
"""Bytes to a multiple of which places in the file and in memory must be aligned; disks ask for 512 or 4096."""


def cached(file: int, start: int, size: int) -> bool:
    """Whether all of a range lies in memory already; True where that cannot be known."""
    look = getattr(libc(), "mincore", None)
    if look is None:
        return True
    first = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    length = start + size - first
    try:
        seen = np.frombuffer(mmap.mmap(file, length, prot=mmap.PROT_READ, offset=first), np.uint8)
    except (OSError, ValueError):  # the second: the file ends before
        return True
    pages = np.empty(-(-length // mmap.PAGESIZE), np.uint8)
    address, found = ctypes.c_void_p(seen.ctypes.data), ctypes.c_void_p(pages.ctypes.data)
    return bool(look(address, ctypes.c_size_t(length), found) != 0 or np.all(pages & 1))


class Past(threading.local):
    """A thread's own memory, to which a disk may write itself."""

    def __init__(self, size: int) -> None:
        """`size`: bytes of one read, about."""
        self._size = -(-size // SECTOR) * SECTOR
        self._room = np.empty(0, np.uint8)

    def read(self, path: str, start: int, buffers: Sequence[memoryview]) -> int:
        """Fills the buffers, one after the other, from byte `start` on; how many bytes came before it ended."""
        if not hasattr(os, "O_DIRECT"):
            return 0
        if len(self._room) == 0:
            self._room = np.frombuffer(mmap.mmap(-1, self._size + SECTOR), np.uint8)
        done, left = 0, sum(map(len, buffers))
        with suppress(OSError):
            file = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
            try:
                while left > 0:
                    skip = (start + done) % SECTOR
                    span = min(len(self._room), -(-(skip + left) // SECTOR) * SECTOR)
                    count = min(os.preadv(file, [self._room[:span]], start + done - skip) - skip, left)
                    if count <= 0:
                        break
                    buffers = _dealt(self._room[skip : skip + count], buffers)
                    done, left = done + count, left - count
            finally:
                os.close(file)
        return done


def _dealt(came: Bytes, buffers: Sequence[memoryview]) -> Sequence[memoryview]:
    """What is left of the buffers after these bytes. numpy copies them and lets other threads go on meanwhile."""
    while len(came):
        piece, *others = buffers
        count = min(len(piece), len(came))
        np.frombuffer(piece, np.uint8)[:count] = came[:count]
        came, buffers = came[count:], [piece[count:], *others] if count < len(piece) else others
    return buffers
