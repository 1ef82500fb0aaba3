"""The groups over real processes: every rank gets the same bits, and no dead rank is waited for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from heavylift_runtime.native.distributed import Alone
from heavylift_runtime.native.shared_memory import join

PROGRAM = Path(__file__).resolve().parent / "group_process.py"
DEADLINE = 60


@contextmanager
def ranks(kind: str, world: int, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """The ranks as processes; none outlives the block."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), kind, str(rank), str(world), f"file://{tmp_path}/{kind}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


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
def test_memory_gloo_and_the_way_back_to_gloo_give_every_rank_the_same(tmp_path: Path) -> None:
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
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline(), process.stdout.readline()

        processes[1].kill()  # and not reaped: a zombie holds no lock either
        out, complaint = processes[0].communicate("wait\n", timeout=DEADLINE)

    assert "met" not in out
    assert "RuntimeError" in complaint
    assert kind == "gloo" or "rank 1 is dead" in complaint


def test_a_world_of_one_needs_no_rendezvous() -> None:
    group = join(0, 1, "")
    tensor = torch.ones(3)

    assert isinstance(group, Alone)
    assert group.all_reduce(tensor) is tensor
    assert group.broadcast(tensor) is tensor
    assert group.all_gather(tensor).shape == (1, 3)
