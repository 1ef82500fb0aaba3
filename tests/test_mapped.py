"""Ranges of a file through a mapping, against the file's own bytes. Not a source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heavylift_runtime.native import mapped

CONTENT = bytes(index * 7 % 251 for index in range(50_000))

pytestmark = pytest.mark.skipif(not mapped.possible(), reason="MADV_POPULATE_READ: Linux since 5.14")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path: Path = tmp_path_factory.mktemp("mapped") / "f"
    path.write_bytes(CONTENT)
    number = os.open(path, os.O_RDONLY)
    yield number
    os.close(number)


@settings(max_examples=300, derandomize=True)
@given(st.integers(0, 20_000), st.integers(1, 3_000), st.integers(0, 3_000), st.integers(1, 12))
def test_pieces_come_as_they_lie_in_the_file_or_not_at_all(
    file: int, start: int, width: int, gap: int, count: int
) -> None:
    pitch = width + gap
    wanted = b"".join(CONTENT[at : at + width] for at in range(start, start + count * pitch, pitch))
    found = bytearray(count * width)

    came = mapped.copied(file, start, pitch, width, memoryview(found))

    assert came == (start + (count - 1) * pitch + width <= len(CONTENT))
    assert found == (wanted if came else bytes(count * width))


@pytest.mark.parametrize(("start", "size", "there"), [(0, 50_000, True), (4_097, 1, True), (49_999, 2, False)])
def test_bytes_are_brought_near_where_the_file_has_them(file: int, start: int, size: int, there: bool) -> None:
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    assert mapped.near(file, start, size) == mapped.near(file, start, size) == there


def test_what_cannot_be_mapped_is_said_and_no_fault() -> None:
    end, other = os.pipe()
    assert not mapped.near(end, 0, 10)
    assert not mapped.copied(end, 0, 2, 1, memoryview(bytearray(10)))
    os.close(end)
    os.close(other)


def test_a_file_cut_short_after_it_was_read_takes_nothing_from_what_was_copied(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        found = bytearray(2 * 5_000)
        assert mapped.copied(file.fileno(), 0, 10_000, 5_000, memoryview(found))
        os.truncate(path, 0)

        assert found == CONTENT[:5_000] + CONTENT[10_000:15_000]
        assert not mapped.copied(file.fileno(), 0, 10_000, 5_000, memoryview(found))
