"""The cache of keys and values: rows that keep to themselves, moves between slots, memory that is given back."""

from __future__ import annotations

import pytest
import torch

from heavylift_runtime.native.cache import Store


def resident(cache: Store) -> int:
    """Bytes of the cache's reservation that are in memory (proc(5), smaps)."""
    place, inside = cache.content.data_ptr(), False
    with open("/proc/self/smaps", encoding="ascii") as file:
        for line in file:
            first, *rest = line.split()
            if "-" in first and not first.endswith(":"):
                begin, end = (int(border, 16) for border in first.split("-"))
                inside = begin <= place < end
            elif inside and first == "Rss:":
                return int(rest[0]) * 1024
    raise AssertionError("the cache is nowhere")


def store(slots: int = 3, longest: int = 40, width: int = 6, dtype: torch.dtype = torch.float32) -> Store:
    return Store(2, slots, 2, longest, width, dtype, torch.device("cpu"))


def test_what_is_put_and_written_is_what_is_read_and_seen() -> None:
    cache = store()
    chunk, tokens = torch.randn(5, 2, 2, 6), torch.randn(2, 4, 6)

    cache.write(1, 1, 0, chunk)
    cache.put(1, cache.places(1, torch.tensor([5, 3])), tokens)

    keys, values = cache.read(1, 1, 6)
    assert torch.equal(keys, torch.cat([chunk[:, 0], tokens[:1, :2]]).transpose(0, 1))
    assert torch.equal(values, torch.cat([chunk[:, 1], tokens[:1, 2:]]).transpose(0, 1))
    all_keys, all_values = cache.views(1, 2, 16)
    assert torch.equal(all_keys[1][:2, :, :6].transpose(1, 2), keys)
    assert torch.equal(all_values[1][2:, 3], tokens[1, 2:])
    assert not cache.content[0].any() and not cache.content[1, :, 0].any()


def test_rows_change_their_slots_all_at_once() -> None:
    cache = store(slots=4)
    for slot in range(4):
        cache.write(0, slot, 0, torch.full((3, 2, 2, 6), float(slot + 1)))

    cache.copy([0, 2, 1], [2, 0, 3], 3)

    assert [cache.read(0, slot, 3)[1][0, 0, 0].item() for slot in range(4)] == [3.0, 2.0, 1.0, 2.0]


@pytest.mark.parametrize(("width", "dtype"), [(64, torch.bfloat16), (6, torch.float32), (80, torch.float32)])
def test_a_row_takes_the_pages_that_it_writes_and_gives_them_back(width: int, dtype: torch.dtype) -> None:
    cache = Store(2, 4, 8, 8192, width, dtype, torch.device("cpu"))
    assert cache.content.nbytes > 24 * 2**20
    pairs = torch.ones(1000, 2, 8, width, dtype=dtype)
    before = resident(cache)  # the kernel may count neighbours in

    for layer in (0, 1):
        cache.write(layer, 2, 0, pairs)
    taken = resident(cache) - before
    cache.drop(2)

    assert taken == cache.taken(1000)
    assert resident(cache) == before
    assert not cache.content[:, :, 2].any()
