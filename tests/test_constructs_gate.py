"""BenchmarkGate's asset: what is in it, what changes its hash, and that it runs with nothing else of ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

import heavylift
from heavylift_cdk import benchmark_gate
from tests.cdk import ROOT, App, AssetStaging, Stack, s3_assets


def staged(root: Path, assembly: Path) -> Path:
    """The asset's folder, as the CDK CLI would zip it; its name is the hash."""
    AssetStaging.clear_asset_hash_cache()  # it remembers a folder by its path for as long as Node lives
    app = App(outdir=str(assembly))
    stack = Stack(app, "stack")
    benchmark_gate.benchmark_code(root).bind(stack)
    (asset,) = [each for each in stack.node.find_all() if isinstance(each, s3_assets.Asset)]
    return assembly / Path(asset.asset_path).name


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the core, to edit."""
    shutil.copytree(ROOT / "heavylift", tmp_path / "copy" / "heavylift")
    (tmp_path / "copy" / "stacks").mkdir()
    return tmp_path / "copy"


def test_the_asset_is_the_benchmark_and_the_empty_init_above_it(tmp_path: Path) -> None:
    folder = staged(ROOT, tmp_path)

    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    expected = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "heavylift" / "benchmark").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert files == {"heavylift/__init__.py"} | expected
    assert "heavylift/benchmark/handler.py" in files


@pytest.mark.slow
def test_the_asset_runs_with_nothing_else_of_ours(tmp_path: Path) -> None:
    folder = staged(ROOT, tmp_path)
    boto = Path(boto3.__file__).parents[1]  # on the path by name: no .pth file adds our checkout
    program = f"""
import sys
sys.path[:0] = [{str(folder)!r}, {str(boto)!r}]
from heavylift.benchmark.handler import handler
import heavylift
assert heavylift.__file__.startswith({str(folder)!r}), heavylift.__file__
assert callable(handler)
print(*sorted({{name.split(".")[0] for name in sys.modules}}))
"""

    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "boto3" in loaded
    assert not loaded & {"aws_cdk", "jinja2", "numpy", "pydantic", "rich", "torch", "yaml"}


@pytest.mark.parametrize(
    "edited",
    ["heavylift/errors.py", "heavylift/plan/fit.py", "heavylift/benchmark/__pycache__/run.pyc", "stacks/serving.py"],
)
def test_an_edit_elsewhere_leaves_the_asset_alone(copy: Path, tmp_path: Path, edited: str) -> None:
    before = staged(copy, tmp_path / "assembly").name

    (copy / edited).parent.mkdir(exist_ok=True)
    (copy / edited).write_text("# second\n")

    assert staged(copy, tmp_path / "assembly").name == before


@pytest.mark.parametrize("edited", ["heavylift/benchmark/run.py", "heavylift/benchmark/workloads/four-tasks.jsonl"])
def test_an_edit_of_the_benchmark_makes_another_asset(copy: Path, tmp_path: Path, edited: str) -> None:
    before = staged(copy, tmp_path / "assembly").name

    (copy / edited).write_text("# second\n")

    assert staged(copy, tmp_path / "assembly").name != before


def test_the_asset_is_taken_from_the_installed_core() -> None:
    assert heavylift.__file__ is not None

    assert Path(heavylift.__file__).parents[1] == benchmark_gate.CORE
