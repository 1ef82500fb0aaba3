"""Project: where it is, and one command at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from heavylift.errors import BusyError, InputError
from heavylift.project import Project


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "app.py").touch()
    (tmp_path / "cdk.json").touch()
    (tmp_path / "models").mkdir()
    return tmp_path


def test_the_project_is_found_from_a_file_below_it(root: Path) -> None:
    assert Project.find(root / "models" / "x.yaml").root == root


def test_a_folder_outside_any_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no app\.py and cdk\.json"):
        Project.find(tmp_path)


def test_a_second_command_is_told_who_is_at_work(root: Path) -> None:
    code = "import sys, pathlib, heavylift.project as p\nwith p.Project(pathlib.Path(sys.argv[1])).only_one('up'): pass"

    with Project(root).only_one("up"):
        second = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)

    assert second.returncode != 0
    assert "'heavylift up' (process" in second.stderr
    assert "is at work" in second.stderr


def test_the_project_is_free_again_after_a_command_that_failed(root: Path) -> None:
    with pytest.raises(ZeroDivisionError), Project(root).only_one("up"):
        raise ZeroDivisionError

    with Project(root).only_one("down"):
        pass

    assert (root / ".heavylift" / "busy").read_text() == ""


def test_the_same_process_cannot_hold_the_project_twice(root: Path) -> None:
    with Project(root).only_one("up"), pytest.raises(BusyError, match="heavylift up"), Project(root).only_one("down"):
        pass
