"""How many threads a rank gets: affinity, quotas of control groups of both versions, small models, the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heavylift_runtime.engines.cores import SMALL, cores, stored, threads

HAS = 8


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(HAS)))


def write(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """The folder of the groups, and the file that says which this process is in."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "groups", root / "own"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, HAS),
        ({"own": "0::/\n", "groups/cpu.max": "max 100000\n"}, HAS),
        ({"own": "0::/\n", "groups/cpu.max": "300000 100000\n"}, 3),
        ({"own": "0::/\n", "groups/cpu.max": "150000 100000\n"}, 1),
        ({"own": "0::/\n", "groups/cpu.max": "50000 100000\n"}, 1),
        ({"own": "0::/\n", "groups/cpu.max": "9900000 100000\n"}, HAS),
        ({"own": "0::/a/b\n", "groups/a/cpu.max": "200000 100000", "groups/a/b/cpu.max": "max 100000"}, 2),
        ({"own": "0::/a/b\n", "groups/a/cpu.max": "400000 100000", "groups/a/b/cpu.max": "200000 100000"}, 2),
        (
            {
                "own": "3:cpuset:/\n2:cpu,cpuacct:/pod\n",
                "groups/cpu/pod/cpu.cfs_quota_us": "400000",
                "groups/cpu/pod/cpu.cfs_period_us": "100000",
                "groups/cpu/cpu.cfs_quota_us": "-1",
                "groups/cpu/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        ({"own": "0::/gone/away\n"}, HAS),
        ({"own": "0::/\n", "groups/cpu.max": "what\n"}, HAS),
    ],
)
def test_cores_are_those_of_the_affinity_within_every_quota_around_the_process(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert cores(*write(tmp_path, files)) == expected


def test_a_rank_gets_its_share_of_the_cores_and_one_thread_for_a_small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heavylift_runtime.engines.cores.cores", lambda: HAS)

    assert [threads(ranks, SMALL, {}) for ranks in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    assert threads(1, SMALL - 1, {}) == 1
    assert threads(1, SMALL, {"OMP_NUM_THREADS": "3"}) is None


def test_the_weights_of_a_folder_are_its_files_and_many_where_there_are_none(tmp_path: Path) -> None:
    assert stored(tmp_path) >= SMALL
    assert stored("organisation/model-of-the-hub") >= SMALL

    (tmp_path / "model-1.safetensors").write_bytes(bytes(7))
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(5))

    assert stored(tmp_path) == 12
