"""Ranges of a local file through a mapping: pieces at one distance copied out of it, and what follows brought near.

Not a source (sources.py), and no mapping stays: a file that is cut short later takes nothing from what was copied. Cut
in the microseconds in between it ends the process, as with any mapping.
A mapping that asks for large pages has the kernel read in large pages, too, and 4 MiB at once whatever the disk's own
setting (Linux, mm/filemap.c, do_sync_mmap_readahead). What posix_fadvise(2) is told it reads in pages of 4 KiB: these
cost a load as much processor time again as its copies do, and where memory is in fragments half as much time again.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress
from functools import cache

import numpy as np
from numpy.typing import NDArray

from heavylift_runtime.native.heap import libc

POPULATE = 22
"""MADV_POPULATE_READ of madvise(2), which Python does not name: Linux since 5.14. A page that cannot be read is then an
error, and not the SIGBUS that touching it would be."""


@cache
def possible() -> bool:
    """Whether this kernel can."""
    if sys.platform != "linux":
        return False
    with suppress(OSError), mmap.mmap(-1, mmap.PAGESIZE) as memory:
        memory.madvise(POPULATE)
        return True
    return False


def copied(file: int, start: int, pitch: int, width: int, buffer: memoryview) -> bool:
    """Fills `buffer` with pieces of `width` bytes, `pitch` apart from byte `start` on; False where that cannot be.

    As where the file ends before, or its file system maps nothing: whoever reads will be told why.
    """
    count = len(buffer) // width
    found = _mapped(file, start, (count - 1) * pitch + width)
    if found is None or not _came(found):
        return False
    rows = np.lib.stride_tricks.as_strided(found, (count, width), (pitch, 1))
    np.copyto(np.frombuffer(buffer, np.uint8).reshape(count, width), rows)
    return True


def near(file: int, start: int, size: int) -> bool:
    """Has these bytes in the page cache, and waits for them; False where that cannot be.

    Nothing is done where the last of them are there. Whoever may not write to a file is not told whether they are
    (mincore(2) then says yes), and does without.
    """
    found, there = _mapped(file, start, size), ctypes.c_ubyte(0)
    if found is None:
        return False
    last = (found.ctypes.data + size - 1) // mmap.PAGESIZE * mmap.PAGESIZE
    if libc().mincore(ctypes.c_void_p(last), ctypes.c_size_t(1), ctypes.byref(there)) == 0 and there.value & 1:
        return True
    return _came(found)


def _mapped(file: int, start: int, size: int) -> NDArray[np.uint8] | None:
    """Bytes of a file, not to be touched before they have come; None: not that many, or nothing can be mapped."""
    skipped = start % mmap.ALLOCATIONGRANULARITY
    if not possible():
        return None
    try:
        memory = mmap.mmap(file, skipped + size, mmap.MAP_PRIVATE, mmap.PROT_READ, offset=start - skipped)
        with suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    except (OSError, ValueError):
        return None
    return np.frombuffer(memory, np.uint8, size, skipped)


def _came(found: NDArray[np.uint8]) -> bool:
    """Waits for the bytes of a mapping while other threads run, which Python's own madvise would not let them."""
    first = found.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    size = found.ctypes.data + len(found) - first
    return bool(libc().madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), POPULATE) == 0)
