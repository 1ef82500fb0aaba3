"""Large blocks of memory: apart from the heap while a checkpoint is loaded, and in pages as large as there are.

Not an allocator: two settings of the C library's (mallopt(3)), advice to the kernel (madvise(2)), and one mapping for
all weights; nothing of the first two where there is no glibc, or no Linux.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""malloc.h: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""
LOADING, SERVING = 256 * 1024, 32 * 1024 * 1024
"""From how many bytes on a block is a mapping of its own. glibc itself raises it to the largest block that was freed,
32 MiB at most; holes of that size then stay in the heap, now here, now there: up to a third of a small shard more. When
the load is over the highest holds: a step takes and gives the same large blocks again and again."""

NORESERVE = 0x4000 if sys.platform == "linux" else 0
"""MAP_NORESERVE of mmap(2), which Python does not name: weights that are rounded on their way, or written to partitions
one after the other, lie here by turns, and all of them together may be more than the machine has."""
POPULATE = 23
"""MADV_POPULATE_WRITE of madvise(2), which Python does not name: Linux since 5.14."""
LEAD, STEP = 16 * 1024 * 1024, 4 * 1024 * 1024
"""Bytes beyond the last tensor's that the kernel is asked for before they are needed, and so many at once."""
ALIGNED = 64
"""Bytes between the places where numbers begin, as PyTorch's own blocks do; any type's size divides it."""


@cache
def libc() -> ctypes.CDLL:
    """The C library of this process; it takes as long to open as reading half a megabyte does."""
    return ctypes.CDLL(None)


def blocks_apart(size: int) -> None:
    """Blocks from `size` bytes on are mapped, and unmapped when they are freed; the heap's end is kept up to twice."""
    mallopt = getattr(libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, size)
        mallopt(TRIM_THRESHOLD, 2 * size)


def aligned(size: int) -> int:
    """Bytes up to the next place of `ALIGNED`."""
    return -(-size // ALIGNED) * ALIGNED


class Region:
    """Memory for tensors that stay, side by side: so short ones, too, lie in large pages.

    Of 400 MB in matrices of 1 MB, each a mapping of its own, three quarters came in pages of 4 KiB, a fault for each.
    What no tensor lies in takes no memory: pages are the kernel's until they are written to, and after their tensor.
    The kernel clears each page that it gives, a quarter of a load's time: a thread can ask for the next ones meanwhile.
    """

    def __init__(self, size: int, *, ahead: bool) -> None:
        """`size`: bytes of all tensors together, each `aligned`; `ahead`: asks so, for which a core must be free, and
        tensors must stay."""
        self._size, self._last, self._used, self._asked = size, 0, 0, 0
        self._asking = ThreadPoolExecutor(1, "pages") if ahead and sys.platform == "linux" else None
        self._memory = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
        if (advice := getattr(mmap, "MADV_HUGEPAGE", None)) is not None:
            with suppress(OSError):  # a kernel without large pages
                self._memory.madvise(advice)

    def room(self, count: int, dtype: torch.dtype) -> Tensor:
        """Memory for so many numbers, flat and not yet written to."""
        size = count * dtype.itemsize
        assert self._used + size <= self._size, "more tensors than were told of"
        if size == 0:
            return torch.empty(0, dtype=dtype)
        held = (ctypes.c_uint8 * size).from_buffer(self._memory, self._used)
        first = -(-self._used // mmap.PAGESIZE) * mmap.PAGESIZE
        self._last, self._used = self._used, self._used + aligned(size)
        self._ask()
        if (whole := (self._used - first) // mmap.PAGESIZE * mmap.PAGESIZE) > 0 and hasattr(mmap, "MADV_DONTNEED"):
            weakref.finalize(held, self._memory.madvise, mmap.MADV_DONTNEED, first, whole).atexit = False
        return torch.frombuffer(held, dtype=dtype)

    def close(self, *, wait: bool = False) -> None:
        """No more tensors will come; those that have stay. `wait`: for the pages that were asked for."""
        if self._asking is not None:
            self._asking.shutdown(cancel_futures=not wait)
            self._asking = None

    def _ask(self) -> None:
        """For the last tensor's pages and those behind it; what the kernel cannot do now it does when they are used."""
        if self._asking is None:
            return
        start = ctypes.addressof(ctypes.c_uint8.from_buffer(self._memory))
        for at in range(self._asked, min(self._size, self._used + LEAD), STEP):
            self._asking.submit(self._bring, start, at, min(STEP, self._size - at))
            self._asked = at + STEP

    def _bring(self, start: int, at: int, size: int) -> None:
        """Not where tensors lie that came before the last one, and may have gone."""
        if at + size > self._last:
            populate(start + at, size)


def populate(start: int, size: int) -> bool:
    """Asks for the pages of so many bytes of a mapping, which are as they were else; whether they have come."""
    return bool(libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), POPULATE) == 0)
