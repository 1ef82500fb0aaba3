"""The image's files: what they copy exists, what they install is tested, the entrypoint runs what SageMaker asks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

DOCKERFILES = sorted((ROOT / "container").glob("Dockerfile.*"))


def pins(lines: list[str]) -> dict[str, str]:
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_there_is_a_dockerfile_for_each_hardware() -> None:
    assert [file.suffix for file in DOCKERFILES] == [".cpu", ".gpu", ".neuron"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_a_dockerfile_copies_only_container_and_runtime(dockerfile: Path) -> None:
    lines = [line for line in dockerfile.read_text().splitlines() if line.startswith("COPY")]
    copies = [line.split()[1] for line in lines if "--from=" not in line]  # which is from another stage

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
    extras = project["optional-dependencies"]
    declared = pins([*project["dependencies"], *extras["runtime"], *extras["accelerate"]])
    installed = pins((ROOT / "container" / "requirements.txt").read_text().splitlines())

    assert installed == {name: declared[name] for name in installed}
    assert set(pins([*extras["runtime"], *extras["accelerate"]])) <= set(installed)


def needed(name: str, extras: frozenset[str] = frozenset()) -> Iterator[str]:
    """What a distribution needs, and what that needs in turn."""
    for text in distribution(name).requires or []:
        found = Requirement(text)
        if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(found.name)
            yield from needed(found.name, frozenset(found.extras))


def test_what_the_image_installs_in_turn_is_pinned_to_the_versions_of_the_tests() -> None:
    def read(path: str) -> dict[str, str]:
        return {canonicalize_name(name): each for name, each in pins((ROOT / path).read_text().splitlines()).items()}

    compiled, ours = read("container/constraints.txt"), read("constraints.txt")
    direct = read("container/requirements.txt") | read("container/requirements-diffusers.txt")

    assert {each for name in direct for each in needed(name)} <= set(compiled) | set(direct)
    assert {name: ours.get(name, each) for name, each in compiled.items()} == compiled
    assert set(compiled) - set(ours) <= {"setuptools"}, "which pip never lists"
    for dockerfile in DOCKERFILES:
        commands = re.split(r"&&|;|\nRUN ", dockerfile.read_text().replace("\\\n", " "))
        free = [each for each in commands if "pip install" in each and "--constraint /tmp/constraints.txt" not in each]
        assert all("--no-deps" in each or "requirements-vllm.txt" in each for each in free), dockerfile


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    """A folder that comes first on the PATH: its `python` tells its process, its arguments and the libraries' path."""
    write(tmp_path / "python", 'echo "$$ $* [$LD_LIBRARY_PATH]"')
    return tmp_path


def write(file: Path, command: str) -> None:
    file.write_text(f"#!/bin/sh\n{command}\n")
    file.chmod(0o755)


def enter(fakes: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """The process that `docker run IMAGE …` starts, and what it said."""
    path = f"{fakes}:{os.environ['PATH']}"
    command = [str(ROOT / "container" / "entrypoint"), *arguments]
    with subprocess.Popen(command, env={"PATH": path} | environ, stdout=subprocess.PIPE, text=True) as started:
        said, _ = started.communicate(timeout=10)
    return started.pid, said


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_enters_by_the_entrypoint_in_exec_form(dockerfile: Path) -> None:
    lines = dockerfile.read_text().splitlines()

    assert 'ENTRYPOINT ["/usr/local/bin/heavylift-entrypoint"]' in lines and 'CMD ["serve"]' in lines


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_is_labelled_as_one_that_binds_a_given_port_and_serves_several_models(dockerfile: Path) -> None:
    _, _, labels = dockerfile.read_text().replace("\\\n", " ").partition("\nLABEL ")

    said = labels.splitlines()[0].split()
    assert {
        f"com.amazonaws.sagemaker.capabilities.{each}=true" for each in ("accept-bind-to-port", "multi-models")
    } == {*said}


def test_serve_becomes_the_server_and_takes_its_signals(fakes: Path) -> None:
    pid, said = enter(fakes, "serve")

    assert said == f"{pid} -P -m heavylift_runtime serve /opt/ml/model --host 0.0.0.0 []\n"


@pytest.mark.parametrize("job", ["train", "partition", "compile"])
def test_a_job_becomes_our_process_and_takes_its_signals(fakes: Path, job: str) -> None:
    pid, said = enter(fakes, job)

    assert said == f"{pid} -P -m heavylift_runtime job {job} []\n"


def test_any_other_command_is_run_as_it_is(fakes: Path) -> None:
    pid, said = enter(fakes, "sh", "-c", "echo $$ $1", "sh", "two words")

    assert said == f"{pid} two words\n"


@pytest.mark.parametrize(
    ("driver", "first"),
    [
        ("550.54.15", True),
        ("560.35.03", True),
        ("560.35.05", False),
        ("570.1.1", False),
        ("1000.1", False),
        ("", False),
    ],
)
def test_the_images_libcuda_comes_first_only_where_the_hosts_driver_is_older(
    fakes: Path, driver: str, first: bool
) -> None:
    compat = fakes / "cuda" / "compat"
    compat.mkdir(parents=True)
    (compat / "libcuda.so.560.35.05").touch()
    (compat / "libcuda.so.1").symlink_to("libcuda.so.560.35.05")
    write(fakes / "nvidia-smi", f'echo "{driver}"' if driver else "exit 9")

    _, said = enter(fakes, "serve", CUDA_HOME=str(fakes / "cuda"), LD_LIBRARY_PATH="/theirs")

    assert said.endswith(f"[{compat}:/theirs]\n" if first else "[/theirs]\n")


def test_without_a_driver_nothing_is_put_before_the_libraries(fakes: Path) -> None:
    (fakes / "cuda" / "compat").mkdir(parents=True)
    (fakes / "cuda" / "compat" / "libcuda.so.1").touch()

    _, said = enter(fakes, "serve", CUDA_HOME=str(fakes / "cuda"))

    assert said.endswith("[]\n")
