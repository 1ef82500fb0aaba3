"""The memory in which ranks read for each other: who dies, fails or has no room does no harm to the others."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path

import pytest
import torch

from heavylift_runtime.native import gathering as gathering_module
from heavylift_runtime.native import loader as loader_module
from heavylift_runtime.native import lots as lots_module
from heavylift_runtime.native import shelves as shelves_module
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.distributed import Group
from heavylift_runtime.native.loader import Loader
from heavylift_runtime.native.shelves import Shelves
from heavylift_runtime.native.sources import Folder, Source
from tests.decoder_checkpoints import KINDS, write_decoder
from tests.rank_processes import started
from tests.rank_threads import on_ranks
from tests.t5_checkpoints import write_t5

PROGRAM = Path(__file__).with_name("rows_process.py")
DEADLINE = 300


class Far(Folder):
    """A folder that several readers read, as they do S3."""

    readers, pieces = 3, False


def ranks(folder: Path, home: Path, ends: tuple[str, str]) -> AbstractContextManager[list[subprocess.Popen[str]]]:
    """Both ranks as processes; none outlives the block."""
    commands = [
        [sys.executable, str(PROGRAM), str(folder), str(rank), f"file://{home}/meeting", end]
        for rank, end in enumerate(ends)
    ]
    return started(commands)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "refused"])
@pytest.mark.parametrize("ending", [0, 1])
def test_a_rank_that_ends_in_the_middle_of_a_load_is_not_waited_for(tmp_path: Path, ending: int, end: str) -> None:
    folder = write_t5(tmp_path / "t5")
    with ranks(folder, tmp_path, ("none", end) if ending else (end, "none")) as processes:
        if end == "refused":
            assert line(processes[ending]) == "LoadError the disk is gone"
            processes[ending].communicate("\n", timeout=DEADLINE)  # the other one hears of it by its end only

        said = line(processes[1 - ending])

        assert processes[ending].wait(DEADLINE) != 0
    assert said == f"RuntimeError rank {ending} is gone in the middle of the load; what it said last is why"


@pytest.mark.slow
def test_processes_hold_what_each_reads_for_itself(tmp_path: Path) -> None:
    folder = write_t5(tmp_path / "t5")

    with ranks(folder, tmp_path, ("none", "none")) as processes:
        found = [line(process) for process in processes]
        complaints = [process.communicate(timeout=DEADLINE)[1] for process in processes]

    assert complaints == ["", ""]
    assert found == [digest(folder, rank) for rank in range(2)]


def digest(folder: Path, rank: int) -> str:
    found = hashlib.sha256()
    checkpoint = Checkpoint.open(Folder(folder), rank, 2)
    with Loader(checkpoint, rank, 2, torch.float32) as loader:
        for weight in checkpoint.agree():
            found.update(loader.take(weight.name).numpy().tobytes())
    return found.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "world"), [("t5", 2), ("t5", 4), ("qwen3", 4), *((kind, 2) for kind in KINDS)])
def test_whoever_reads_what_each_rank_holds_its_part(
    tmp_path: Path, kind: str, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "t5":
        folder = write_t5(tmp_path / kind)
    else:
        folder = write_decoder(tmp_path / kind, KINDS[kind][0], **KINDS[kind][1])

    def load(source: Source, rank: int, dtype: torch.dtype, group: Group | None = None) -> list[torch.Tensor]:
        checkpoint = Checkpoint.open(source, rank, world)
        with Loader(checkpoint, rank, world, dtype, group=group) as loader:
            return [loader.take(weight.name) for weight in checkpoint.agree() if checkpoint.find(weight) is not None]

    def together(dtype: torch.dtype) -> list[list[torch.Tensor]]:
        return on_ranks(world, lambda group: load(Far(folder), group.rank, dtype, group))

    for own, shelf, kept in product((64, 10**9), (4096, 10**6), (torch.float32, torch.bfloat16)):
        monkeypatch.setattr(lots_module, "OWN", own)
        monkeypatch.setattr(lots_module, "DIRECT", 64)  # as if all were long
        monkeypatch.setattr(loader_module, "FEW", shelf)
        for rank, tensors in enumerate(together(kept)):
            for found, expected in zip(tensors, load(Folder(folder), rank, kept), strict=True):
                assert torch.equal(found, expected)


def test_ranks_that_need_nothing_of_many_lots_do_not_run_ahead_until_their_words_find_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, shape = KINDS["bloom-six-heads"]
    folder, world = write_decoder(tmp_path / "bloom", family, **{**shape, "vocab_size": 6000}), 3
    monkeypatch.setattr(lots_module, "OWN", 64)
    monkeypatch.setattr(loader_module, "FEW", 4096)
    monkeypatch.setattr(loader_module, "TENTH", 0)
    most = 8
    monkeypatch.setattr(lots_module, "OUTSTANDING", most)
    monkeypatch.setattr(gathering_module, "OUTSTANDING", most)
    told, heard = Counter[Shelves](), Counter[Shelves]()
    hear, tell = Shelves.hear, Shelves.tell

    def listen(shelves: Shelves, rank: int, *, wait: bool) -> tuple[bytes, int] | None:
        word = hear(shelves, rank, wait=wait)
        heard[shelves] += word is not None
        return word

    def count(shelves: Shelves, about: bytes, number: int) -> None:
        told[shelves] += 1
        unheard = sum(told.values()) * (world - 1) - sum(heard.values())
        assert unheard <= 4 * most * world * (world - 1)  # else ranks would wait for room, each for the other
        tell(shelves, about, number)

    monkeypatch.setattr(Shelves, "hear", listen)
    monkeypatch.setattr(Shelves, "tell", count)

    def load(group: Group) -> int:
        checkpoint = Checkpoint.open(Far(folder), group.rank, world)
        with Loader(checkpoint, group.rank, world, torch.float32, group=group) as loader:
            return sum(loader.take(weight.name).numel() for weight in checkpoint.agree() if loader.has(weight.name))

    assert sum(on_ranks(world, load)) > 6000 * 24


def joined(group: Group, size: int = 4096) -> bool:
    shelves = Shelves.join(group, size)
    if shelves is not None:
        shelves.close()
    return shelves is not None


@pytest.mark.parametrize("world", [2, 3, 5])
def test_what_a_rank_lays_down_all_others_see_after_its_word(world: int) -> None:
    def tell(group: Group) -> list[tuple[tuple[bytes, int] | None, int]]:
        shelves = Shelves.join(group, 64)
        assert shelves is not None
        shelves.every[group.rank].fill_(group.rank + 1)
        shelves.tell(b"r", group.rank)
        others = [rank for rank in range(world) if rank != group.rank]
        found = [(shelves.hear(rank, wait=True), int(shelves.every[rank].sum())) for rank in others]
        group.barrier()
        shelves.close()
        return found

    found = on_ranks(world, tell)

    for rank, heard in enumerate(found):
        assert heard == [((b"r", other), 64 * (other + 1)) for other in range(world) if other != rank]


def test_words_of_a_rank_that_has_left_are_heard_before_its_silence() -> None:
    def speak(group: Group) -> list[object]:
        shelves = Shelves.join(group, 64)
        assert shelves is not None
        if group.rank == 0:
            assert shelves.hear(1, wait=False) is None
            group.barrier()
            shelves.tell(b"t", 1)
            shelves.tell(b"t", 2)
            group.barrier()
            shelves.close()  # with a word that it has not heard
            group.barrier()
            return []
        group.barrier()
        shelves.tell(b"r", 7)
        group.barrier()
        group.barrier()
        shelves.tell(b"r", 8)  # to nobody: no fault
        heard: list[object] = [shelves.hear(0, wait=True), shelves.hear(0, wait=False), shelves.hear(0, wait=False)]
        with pytest.raises(RuntimeError, match="rank 0 is gone"):
            shelves.hear(0, wait=True)
        return heard

    assert on_ranks(2, speak)[1] == [(b"t", 1), (b"t", 2), None]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.ENOMEM, errno.EPERM])
def test_where_one_rank_has_no_room_none_has_shelves_and_each_reads_for_itself(
    tmp_path: Path, fault: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls, allocate = write_t5(tmp_path / "t5"), iter(range(100)), os.posix_fallocate

    def refuse(file: int, start: int, size: int) -> None:
        if next(calls) % 2:
            raise OSError(fault, os.strerror(fault))
        allocate(file, start, size)

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert on_ranks(2, joined) == [False, False]

    def load(group: Group) -> list[torch.Tensor]:
        checkpoint = Checkpoint.open(Far(folder), group.rank, 2)
        with Loader(checkpoint, group.rank, 2, torch.float32, group=group) as loader:
            return [loader.take(weight.name) for weight in checkpoint.agree()]

    found = on_ranks(2, load)
    monkeypatch.undo()
    for rank, tensors in enumerate(found):
        checkpoint = Checkpoint.open(Folder(folder), rank, 2)
        with Loader(checkpoint, rank, 2, torch.float32) as loader:
            assert all(torch.equal(loader.take(w.name), t) for w, t in zip(checkpoint.agree(), tensors, strict=True))


def test_memory_is_handed_to_processes_of_the_same_user_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_ranks(2, joined) == [True, True]
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(shelves_module, "PATIENCE", 0.2)

    assert on_ranks(2, joined) == [False, False]


def test_a_socket_or_file_that_was_opened_is_closed_again() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(on_ranks, 3, joined).result()
    before = sorted(os.readlink(f"/proc/self/fd/{name}").partition(":")[0] for name in _open())

    on_ranks(3, joined)

    assert sorted(os.readlink(f"/proc/self/fd/{name}").partition(":")[0] for name in _open()) == before


def _open() -> list[str]:
    return [name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")]
