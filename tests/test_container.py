"""The image's files: what they copy exists, what they install is what we test with, `serve` is what SageMaker runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCKERFILES = sorted((ROOT / "container").glob("Dockerfile.*"))


def pins(lines: list[str]) -> dict[str, str]:
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_there_is_a_dockerfile_for_each_hardware() -> None:
    assert [file.suffix for file in DOCKERFILES] == [".cpu", ".gpu", ".neuron"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_a_dockerfile_copies_only_container_and_runtime(dockerfile: Path) -> None:
    copies = [line.split()[1] for line in dockerfile.read_text().splitlines() if line.startswith("COPY")]

    assert copies
    for source in copies:
        assert source.partition("/")[0] in ("container", "runtime") and (ROOT / source).exists(), source


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_a_dockerfile_needs_no_newer_docker_than_the_users(dockerfile: Path) -> None:
    text = dockerfile.read_text()

    assert "# syntax" not in text and "<<" not in text and "--link" not in text


def test_the_dockerfiles_are_hadolint_clean() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", *DOCKERFILES], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_installs_the_versions_that_the_tests_run_with() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = pins([*project["dependencies"], *project["optional-dependencies"]["runtime"]])
    installed = pins((ROOT / "container" / "requirements.txt").read_text().splitlines())

    assert installed == {name: declared[name] for name in installed}
    assert set(pins(project["optional-dependencies"]["runtime"])) <= set(installed)


def test_serve_becomes_the_server_and_takes_its_signals(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho "$$ $*"\n')
    fake.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"

    with subprocess.Popen(
        [ROOT / "container" / "serve"], env={"PATH": path}, stdout=subprocess.PIPE, text=True
    ) as started:
        said, _ = started.communicate(timeout=10)

    assert said == f"{started.pid} -P -m heavylift_runtime serve /opt/ml/model --host 0.0.0.0\n"
