"""Memory for weights: side by side, never another's, and the kernel's again when a tensor goes."""

from __future__ import annotations

import gc
import mmap
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime.native.heap import ALIGNED, Region, aligned

OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int8]


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@given(
    wanted=st.lists(st.tuples(st.integers(0, 30_000), st.sampled_from(DTYPES), st.booleans()), min_size=1, max_size=12)
)
def test_tensors_of_a_region_never_share_a_byte_and_outlive_those_beside_them(
    wanted: list[tuple[int, torch.dtype, bool]],
) -> None:
    region = Region(sum(aligned(count * dtype.itemsize) for count, dtype, _ in wanted))
    tensors = {place: region.room(count, dtype) for place, (count, dtype, _) in enumerate(wanted)}
    for place, tensor in tensors.items():
        assert tensor.data_ptr() % ALIGNED == 0 or not len(tensor)
        tensor.fill_(place + 1)

    for place, (_, _, goes) in enumerate(wanted):
        if goes:
            del tensors[place]
    del region

    for place, tensor in tensors.items():
        assert tensor.shape == (wanted[place][0],) and tensor.dtype == wanted[place][1]
        assert bool((tensor == place + 1).all())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux maps more than there is")
@pytest.mark.skipif(
    OVERCOMMIT.exists() and OVERCOMMIT.read_text().strip() == "2", reason="this kernel promises nothing"
)
def test_a_region_may_be_larger_than_the_machine_for_not_all_tensors_lie_there_at_once() -> None:
    tensor = Region(2**40).room(1000, torch.float32).fill_(1)

    assert tensor.sum() == 1000


def test_a_tensors_memory_goes_back_to_the_kernel_with_it_and_not_before_its_views() -> None:
    size = 64 * 1024 * 1024
    region = Region(2 * size)
    gone, kept = region.room(size, torch.int8).fill_(1), region.room(size, torch.int8).fill_(2)
    view, full = gone.view(8, -1)[3], resident()

    del gone
    gc.collect()
    assert resident() > full - size // 2 and bool((view == 1).all())

    del view
    gc.collect()
    assert resident() < full - size // 2
    assert bool((kept == 2).all())


def test_more_tensors_than_a_region_was_told_of_are_a_fault_of_ours() -> None:
    region = Region(aligned(100))
    region.room(100, torch.int8)

    with pytest.raises(AssertionError, match="more tensors than were told of"):
        region.room(1, torch.int8)
