"""The Lambda's code alone: `heavylift/__init__.py` and `heavylift/benchmark/`, the standard library and boto3."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import heavylift.benchmark

# What boto3 brings along; certifi it takes where it finds it.
ALLOWED = {"boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3", "certifi", "heavylift"}

PROGRAM = """
import importlib, json, pkgutil, sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import heavylift.benchmark
for module in pkgutil.iter_modules(heavylift.benchmark.__path__, "heavylift.benchmark."):
    importlib.import_module(module.name)
from heavylift.benchmark.handler import handler
from heavylift.benchmark.workload import Workload
foreign = {name.split(".")[0] for name in set(sys.modules) - before} - {*sys.stdlib_module_names, "__mp_main__"}
print(json.dumps({
    "file": heavylift.benchmark.__file__,
    "foreign": sorted(foreign),
    "heavylift": sorted(name for name in sys.modules if name.startswith("heavylift.")),
    "examples": len(Workload.load("four-tasks").examples),
}))
"""


@pytest.mark.slow
def test_the_lambda_needs_nothing_but_its_folder_and_boto3(tmp_path: Path) -> None:
    source = Path(heavylift.benchmark.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, tmp_path / "task" / "heavylift" / "benchmark", ignore=ignore)
    shutil.copy(source.parent / "__init__.py", tmp_path / "task" / "heavylift")

    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, str(tmp_path / "task")], check=True, capture_output=True, text=True
    )

    told = json.loads(done.stdout)
    assert told["file"].startswith(str(tmp_path))
    assert set(told["foreign"]) <= ALLOWED
    assert all(name.startswith("heavylift.benchmark") for name in told["heavylift"])
    assert told["examples"] == 200
    assert done.stderr == ""
