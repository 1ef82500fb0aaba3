"""Ranks that looked at different files load nothing, be they of one stage, of several, or of a partition."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from heavylift_runtime.errors import LoadError
from heavylift_runtime.native.alike import prove_alike
from heavylift_runtime.native.checkpoint import Checkpoint
from heavylift_runtime.native.mesh import Mesh
from heavylift_runtime.native.partition import partition
from heavylift_runtime.native.sources import Folder
from tests.rank_processes import started
from tests.rank_threads import on_mesh
from tests.t5_checkpoints import edit_config, write_t5

DEADLINE = 300
CHANGED = "its files changed while the ranks looked at them"


class Versioned(Folder):
    """A folder in one of its versions."""

    def __init__(self, path: Path, state: str = "1") -> None:
        super().__init__(path)
        self._state = state

    def version(self, name: str) -> str | None:
        return self._state


def lengthen(folder: Path) -> None:
    """The same tensors, each at another place."""
    file = folder / "model.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt", "longer": "x" * 256})


def opened(folder: Path, mesh: Mesh, state: str = "1") -> Checkpoint:
    world, stage = mesh.everyone.world // mesh.stage.of, mesh.stage
    return Checkpoint.open(Versioned(folder, state), mesh.everyone.rank % world, world, stage)


@pytest.mark.parametrize("degrees", [(2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("differs", ["nothing", "the places", "the version", "the config"])
def test_ranks_that_saw_different_files_are_told_so(tmp_path: Path, differs: str, degrees: tuple[int, int]) -> None:
    folders = [write_t5(tmp_path / "a", num_layers=2, num_decoder_layers=2), tmp_path / "b"]
    shutil.copytree(*folders)
    if differs == "the places":
        lengthen(folders[1])
    if differs == "the config":
        edit_config(folders[1], layer_norm_epsilon=0.5)

    def prove(mesh: Mesh) -> str:
        last = mesh.everyone.rank == mesh.everyone.world - 1
        try:
            prove_alike(mesh.everyone, opened(folders[last], mesh, str(last and differs == "the version")))
        except LoadError as error:
            return str(error)
        return ""

    for said in on_mesh(*degrees, prove):
        assert (CHANGED in said) == (differs != "nothing"), said


@pytest.mark.parametrize("stages", [1, 2])
def test_so_are_the_ranks_of_a_partition(tmp_path: Path, stages: int) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        source = write_t5(tmp_path / name, seed=seed, num_layers=2, num_decoder_layers=2)
        partition(Folder(source), tmp_path / f"{name} in parts", 2, stages=stages)

    def prove(names: str, mesh: Mesh) -> str:
        folder = tmp_path / f"{names[mesh.everyone.rank % 2]} in parts"
        try:
            prove_alike(mesh.everyone, opened(folder, mesh))
        except LoadError as error:
            return str(error)
        return ""

    assert on_mesh(2, stages, lambda mesh: prove("aa", mesh)) == [""] * 2 * stages
    for said in on_mesh(2, stages, lambda mesh: prove("ab", mesh)):
        assert CHANGED in said


@pytest.mark.slow
def test_the_engine_does_not_load_what_its_ranks_saw_differently(tmp_path: Path) -> None:
    folders = [write_t5(tmp_path / "a"), tmp_path / "b"]
    shutil.copytree(*folders)
    lengthen(folders[1])
    commands = [
        [sys.executable, "-m", "tests.rank_process", str(folder), str(rank), "2", f"file://{tmp_path}/meeting"]
        for rank, folder in enumerate(folders)
    ]

    with started(commands) as processes:
        for process in processes:
            out, complaint = process.communicate("null\n", timeout=DEADLINE)
            assert "loaded" not in out and CHANGED in complaint
