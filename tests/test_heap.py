"""Memory for weights: side by side, never another's, and the kernel's again when a tensor goes."""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime.native.heap import ALIGNED, LEAD, Region, aligned, libc, populate

OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int8]


def resident(start: int, size: int) -> int:
    """Bytes of so many from `start` on, where a page begins, that lie in memory (mincore(2))."""
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    assert libc().mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), pages) == 0
    return sum(page & 1 for page in pages) * mmap.PAGESIZE


def populates() -> bool:
    """Whether the kernel gives pages when it is asked."""
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        return populate(ctypes.addressof(ctypes.c_uint8.from_buffer(memory)), mmap.PAGESIZE)


@given(
    wanted=st.lists(st.tuples(st.integers(0, 30_000), st.sampled_from(DTYPES), st.booleans()), min_size=1, max_size=12),
    ahead=st.booleans(),
)
def test_tensors_of_a_region_never_share_a_byte_and_outlive_those_beside_them(
    wanted: list[tuple[int, torch.dtype, bool]], ahead: bool
) -> None:
    region = Region(sum(aligned(count * dtype.itemsize) for count, dtype, _ in wanted), ahead=ahead)
    tensors = {place: region.room(count, dtype) for place, (count, dtype, _) in enumerate(wanted)}
    for place, tensor in tensors.items():
        assert tensor.data_ptr() % ALIGNED == 0 or not len(tensor)
        tensor.fill_(place + 1)

    for place, (_, _, goes) in enumerate(wanted):
        if goes:
            del tensors[place]
    region.close()
    del region

    for place, tensor in tensors.items():
        assert tensor.shape == (wanted[place][0],) and tensor.dtype == wanted[place][1]
        assert bool((tensor == place + 1).all())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux maps more than there is")
@pytest.mark.skipif(
    OVERCOMMIT.exists() and OVERCOMMIT.read_text().strip() == "2", reason="this kernel promises nothing"
)
def test_a_region_may_be_larger_than_the_machine_for_not_all_tensors_lie_there_at_once() -> None:
    tensor = Region(2**40, ahead=False).room(1000, torch.float32).fill_(1)

    assert tensor.sum() == 1000


@pytest.mark.slow
def test_a_tensors_memory_goes_back_to_the_kernel_with_it_and_not_before_its_views() -> None:
    size = 64 * 1024 * 1024
    region = Region(2 * size, ahead=False)
    gone, kept = region.room(size, torch.int8).fill_(1), region.room(size, torch.int8).fill_(2)
    view, start = gone.view(8, -1)[3], gone.data_ptr()

    del gone
    gc.collect()
    assert resident(start, size) == size and bool((view == 1).all())

    del view
    gc.collect()
    assert resident(start, size) == 0 and resident(kept.data_ptr(), size) == size
    assert bool((kept == 2).all())


@pytest.mark.skipif(not populates(), reason="this kernel gives no pages before they are used (Linux does since 5.14)")
@pytest.mark.parametrize("ahead", [True, False])
def test_pages_come_before_they_are_used_a_little_ahead_where_that_is_asked(ahead: bool) -> None:
    size = 16 * LEAD
    region = Region(size, ahead=ahead)

    start = region.room(100, torch.int8).data_ptr()
    region.close(wait=True)

    came = resident(start, size)
    assert LEAD // 2 < came < 2 * LEAD if ahead else came < LEAD // 2
    assert not region.room(size // 2, torch.int8).any()


def test_more_tensors_than_a_region_was_told_of_are_a_fault_of_ours() -> None:
    region = Region(aligned(100), ahead=False)
    region.room(100, torch.int8)

    with pytest.raises(AssertionError, match="more tensors than were told of"):
        region.room(1, torch.int8)
