"""The groups over real processes: every rank gets the same bits, and no dead rank is waited for."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from heavylift_runtime.native import shared_memory
from heavylift_runtime.native.distributed import Alone
from heavylift_runtime.native.shared_memory import join, through_memory
from tests.rank_processes import started

HERE = Path(__file__).resolve().parent
PROGRAM, HELD_BACK = HERE / "group_process.py", HERE / "held_back.c"
DEADLINE = 300


def ranks(
    kind: str, world: int, tmp_path: Path, environment: Mapping[str, str] | None = None
) -> AbstractContextManager[list[subprocess.Popen[str]]]:
    """The ranks as processes; none outlives the block. `environment`: what the last one's has besides."""
    last = {**os.environ, **(environment or {})}
    commands = [
        [sys.executable, str(PROGRAM), kind, str(rank), str(world), f"file://{tmp_path}/{kind}"]
        for rank in range(world)
    ]
    return started(commands, [*[None] * (world - 1), last])


def results(kind: str, world: int, tmp_path: Path) -> list[list[str]]:
    """What each rank prints: its group with the files it left, and the digest of all that it got."""
    with ranks(kind, world, tmp_path) as processes:
        printed = []
        for process in processes:
            out, complaint = process.communicate("end\n", timeout=DEADLINE)
            assert process.returncode == 0, complaint
            printed.append(out.splitlines())
        return printed


@pytest.mark.slow
def test_memory_gloo_and_the_way_back_to_gloo_give_every_rank_the_same_and_each_row_its_own_sum(tmp_path: Path) -> None:
    world = 3
    plain, quick, full = (results(kind, world, tmp_path) for kind in ("gloo", "memory", "full"))

    assert [rank[0] for rank in plain] == ["Gloo []"] * world
    assert [rank[0] for rank in quick] == ["SharedMemory []"] * world  # its file has no name any more
    assert [rank[0] for rank in full] == ["Gloo []"] * world
    assert {rank[1] for run in (plain, quick, full) for rank in run} == {plain[0][1]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gloo", "memory"])
def test_a_rank_that_dies_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    with ranks(kind, 2, tmp_path) as processes:
        exchanged(processes)

        processes[1].kill()  # and not reaped: a zombie holds no lock either
        out, complaint = processes[0].communicate("wait\n", timeout=DEADLINE)

    assert "met" not in out
    assert "RuntimeError" in complaint
    assert kind == "gloo" or "rank 1 is dead" in complaint


def exchanged(processes: list[subprocess.Popen[str]]) -> None:
    """Waits until each has its group, and has done with what it exchanges."""
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline(), process.stdout.readline()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gloo", "memory"])
@pytest.mark.parametrize("leaver", [0, 1])
@pytest.mark.parametrize("gone", ["left", "killed", "stopped"])
def test_a_rank_leaves_whoever_has_left_before(kind: str, leaver: int, gone: str, tmp_path: Path) -> None:
    with ranks(kind, 2, tmp_path) as processes:
        exchanged(processes)
        if gone == "left":
            processes[1 - leaver].communicate("end\n", timeout=DEADLINE)
        elif gone == "killed":
            processes[1 - leaver].kill()
            processes[1 - leaver].wait(DEADLINE)
        else:
            processes[1 - leaver].send_signal(signal.SIGSTOP)

        _, complaint = processes[leaver].communicate("end\n", timeout=DEADLINE)

    assert (processes[leaver].returncode, complaint) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to build tests/held_back.c with")
@pytest.mark.parametrize("kind", ["gloo", "memory"])
def test_the_end_of_the_interpreter_waits_for_the_groups_threads(kind: str, tmp_path: Path) -> None:
    library = tmp_path / "held_back.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(HELD_BACK), "-ldl"], check=True)

    with ranks(kind, 2, tmp_path, {"LD_PRELOAD": str(library), "HELD_BACK": f"{tmp_path}/rank-1"}) as processes:
        exchanged(processes)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("last\n")
            process.stdin.flush()
        (_, told), (_, complaint) = (process.communicate(timeout=DEADLINE) for process in processes)

    assert (processes[0].returncode, told) == (0, "")
    assert "a thread of gloo's is held back" in complaint
    assert processes[1].returncode == 0, complaint


def test_where_a_rank_dies_while_they_meet_no_file_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bereft:
        """Rank 0 of two, whose other one is there no more when it has its file."""

        rank, world = 0, 2

        def broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
            assert len(os.listdir(shared_memory.FOLDER)) == 1
            return tensor

        def barrier(self) -> None:
            raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with tempfile.TemporaryDirectory() as folder:  # a short name: it is told in 64 bytes
        monkeypatch.setattr(shared_memory, "FOLDER", folder)

        with pytest.raises(RuntimeError, match="closed by peer"):
            through_memory(Bereft())  # type: ignore[arg-type]  # all that is asked of a group until then

        assert not os.listdir(folder)


def test_a_world_of_one_needs_no_rendezvous() -> None:
    group = join(0, 1, "")
    tensor = torch.ones(3)

    assert isinstance(group, Alone)
    assert group.all_reduce(tensor) is tensor
    assert group.broadcast(tensor) is tensor
    assert group.all_gather(tensor).shape == (1, 3)
