"""Reading past the page cache: the same bytes, from and to any place, and the ordinary way where it does not work."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native import sources
from heavylift_runtime.native.page_cache import SECTOR, Past, cached
from heavylift_runtime.native.sources import Folder

CONTENT = bytes(index * 7919 % 251 for index in range(5 * SECTOR + 100))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("past")
    (home / "f").write_bytes(CONTENT)
    return home


@pytest.fixture
def past(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every range that is not empty is long and in no cache; how many bytes of each came past it."""
    came: list[int] = []
    read = Past.read

    def watched(self: Past, *arguments: object) -> int:
        came.append(read(self, *arguments))  # type: ignore[arg-type]  # handed on as they are
        return came[-1]

    monkeypatch.setattr(sources, "LONG", 1)
    monkeypatch.setattr(sources, "cached", lambda *_: False)
    monkeypatch.setattr(Past, "read", watched)
    return came


def drop(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


@settings(max_examples=200, derandomize=True)
@given(
    st.integers(0, len(CONTENT) - 1), st.lists(st.integers(0, 3 * SECTOR), min_size=1, max_size=4), st.integers(1, 9000)
)
def test_any_range_comes_to_any_places(folder: Path, start: int, sizes: list[int], room: int) -> None:
    places = [bytearray(size) for size in sizes]

    came = Past(room).read(str(folder / "f"), start, [memoryview(place) for place in places if place])

    assert came == min(sum(sizes), len(CONTENT) - start)
    assert b"".join(places)[:came] == CONTENT[start : start + came]


def test_what_the_kernel_holds_is_known_page_by_page(folder: Path) -> None:
    path = folder / "f"
    path.read_bytes()
    with path.open("rb") as file:
        assert cached(file.fileno(), 0, len(CONTENT))
        drop(path)
        if cached(file.fileno(), 0, len(CONTENT)):
            pytest.skip("this file system keeps its files in memory")
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), 10, 2 * SECTOR + 5)

        assert cached(file.fileno(), 2 * SECTOR + 17, 100)
        assert not cached(file.fileno(), 3 * SECTOR + 17, 100)
        assert not cached(file.fileno(), 2 * SECTOR + 17, SECTOR)
        assert cached(file.fileno(), len(CONTENT) * 2, 1)  # nothing is there: the read itself will say it


def test_a_long_range_comes_past_the_page_cache_and_leaves_nothing_in_it(folder: Path, past: list[int]) -> None:
    drop(folder / "f")
    with (folder / "f").open("rb") as file:
        if cached(file.fileno(), 0, len(CONTENT)):
            pytest.skip("this file system keeps its files in memory")
        buffer = bytearray(3 * SECTOR)

        Folder(folder).read_into("f", 100, memoryview(buffer))

        assert buffer == CONTENT[100 : 100 + len(buffer)]
        assert past == [len(buffer)]
        assert not any(cached(file.fileno(), start, 1) for start in range(0, len(CONTENT), SECTOR))


@pytest.mark.parametrize("fault", [errno.EINVAL, errno.EIO, errno.EPERM])
@pytest.mark.parametrize("call", ["open", "preadv"])
def test_where_it_does_not_work_the_ordinary_way_reads(
    folder: Path, past: list[int], call: str, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary, turns = getattr(os, call), iter(range(100))

    def refuse(file: object, more: object, *rest: object) -> object:
        if (call == "open" and isinstance(more, int) and more & os.O_DIRECT) or (call == "preadv" and next(turns) == 1):
            raise OSError(fault, os.strerror(fault))
        return ordinary(file, more, *rest)

    monkeypatch.setattr(Folder, "cast", SECTOR)
    monkeypatch.setattr(os, call, refuse)
    buffers = [bytearray(2 * SECTOR), bytearray(0), bytearray(2 * SECTOR)]

    Folder(folder).read_into("f", 50, *[memoryview(buffer) for buffer in buffers])

    assert b"".join(buffers) == CONTENT[50 : 50 + 4 * SECTOR]
    assert past[0] < 4 * SECTOR


def test_a_file_that_ends_too_early_is_said(folder: Path, past: list[int]) -> None:
    with pytest.raises(
        LoadError, match=rf"ends at byte {len(CONTENT)}, before byte {len(CONTENT) + 90}; copy it again"
    ):
        Folder(folder).read_into("f", len(CONTENT) - 10, memoryview(bytearray(100)))
    assert past == [10]


def test_what_was_told_to_the_disk_comes_through_the_page_cache(folder: Path, past: list[int]) -> None:
    source, buffer = Folder(folder), bytearray(SECTOR)
    source.ahead("f", 10, SECTOR)

    source.read_into("f", 10, memoryview(buffer))

    assert buffer == CONTENT[10 : 10 + SECTOR]
    assert past == []
