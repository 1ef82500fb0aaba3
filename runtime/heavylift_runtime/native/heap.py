"""Large blocks of memory apart from the heap while a checkpoint is loaded, so that what is freed is given back.

Not an allocator: two settings of the C library's (mallopt(3)), and nothing where it is not glibc.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""malloc.h: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""
LOADING, SERVING = 256 * 1024, 32 * 1024 * 1024
"""From how many bytes on a block is a mapping of its own. glibc itself raises it to the largest block that was freed,
32 MiB at most; holes of that size then stay in the heap, now here, now there: up to a third of a small shard more. When
the load is over the highest holds: a step takes and gives the same large blocks again and again."""


def blocks_apart(size: int) -> None:
    """Blocks from `size` bytes on are mapped, and unmapped when they are freed; the heap's end is kept up to twice."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, size)
        mallopt(TRIM_THRESHOLD, 2 * size)
