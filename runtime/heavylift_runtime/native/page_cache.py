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

from heavylift_runtime.native.heap import libc

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
        self._room: mmap.mmap | None = None

    def read(self, path: str, start: int, buffers: Sequence[memoryview]) -> int:
        """Fills the buffers, one after the other, from byte `start` on; how many bytes came before it ended."""
        if not hasattr(os, "O_DIRECT"):
            return 0
        self._room = mmap.mmap(-1, self._size + SECTOR) if self._room is None else self._room
        done, at, place = 0, 0, 0
        with suppress(OSError), memoryview(self._room) as room:
            file = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
            try:
                left = sum(map(len, buffers))
                while left > 0:
                    skip = (start + done) % SECTOR
                    span = min(len(room), -(-(skip + left) // SECTOR) * SECTOR)
                    count = min(os.preadv(file, [room[:span]], start + done - skip) - skip, left)
                    if count <= 0:
                        break
                    came = room[skip : skip + count]
                    while len(came):
                        piece = came[: len(buffers[at]) - place]
                        buffers[at][place : place + len(piece)] = piece
                        came, place = came[len(piece) :], place + len(piece)
                        if place == len(buffers[at]):
                            at, place = at + 1, 0
                    done, left = done + count, left - count
            finally:
                os.close(file)
        return done
