"""Which Python an engine's ranks run in, and the sentence where there is none."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from heavylift.commands import aim
from heavylift.errors import InputError
from heavylift.project import Project
from heavylift_runtime.engines import registry
from heavylift_runtime.engines.interpreter import VARIABLE, environment_of, interpreter_of
from heavylift_runtime.options import Options
from tests.conftest import ROOT
from tests.served import serving, write_script

GONE = (("no_such_module", "no-such-package"),)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM, wherever this runs, is not in this environment."""
    monkeypatch.setattr(registry, "ENGINES", dict(registry.ENGINES))
    row = replace(registry.ENGINES["vllm"], packages=GONE)
    for module in ("heavylift_runtime.engines.interpreter", "heavylift.commands.aim"):
        monkeypatch.setattr(f"{module}.ENGINES", {**registry.ENGINES, "vllm": row})


def made(folder: Path) -> Path:
    """An environment of vLLM's own, complete."""
    python = folder / ".venv-vllm" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (folder / ".venv-vllm" / "installed").touch()
    return python


VLLM = Options.parse("engine=Python\noption.entryPoint=djl_python.vllm\n", {})


def test_an_engine_that_is_here_runs_here(tmp_path: Path) -> None:
    made(tmp_path)

    assert interpreter_of(Options(), {VARIABLE: str(tmp_path)}) == sys.executable


def test_an_engine_that_is_not_here_runs_in_its_own_environment(absent: None, tmp_path: Path) -> None:
    assert interpreter_of(VLLM, {VARIABLE: str(tmp_path)}) == sys.executable
    assert interpreter_of(VLLM, {}) == sys.executable

    python = made(tmp_path)

    assert interpreter_of(VLLM, {VARIABLE: str(tmp_path)}) == str(python)


def test_half_of_an_environment_is_none(absent: None, tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / ".venv-vllm" / "installed").unlink()

    assert interpreter_of(VLLM, {VARIABLE: str(tmp_path)}) == sys.executable


def test_lmi_s_option_names_any_interpreter() -> None:
    options = Options.parse("engine=native\noption.pythonExecutable=/opt/python\n", {})

    assert interpreter_of(options, {}) == "/opt/python"


def test_another_interpreter_finds_the_runtime_and_what_its_path_had() -> None:
    assert environment_of(sys.executable, {"A": "b"}) == {"A": "b"}
    assert environment_of("/other", {"PYTHONPATH": "/x"})["PYTHONPATH"] == f"{ROOT / 'runtime'}:/x"
    assert environment_of("/other", {})["PYTHONPATH"] == str(ROOT / "runtime")


def test_a_deployment_says_which_target_installs_a_missing_engine(absent: None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"engine vllm is not installed: `make vllm` installs it into \.venv-vllm"):
        aim.check_engines(Project(tmp_path), ["native", "vllm"])

    made(tmp_path)
    aim.check_engines(Project(tmp_path), ["native", "vllm"])


@pytest.mark.slow
def test_an_interpreter_that_is_none_ends_the_server_with_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "serving.properties").write_text("engine=native\noption.pythonExecutable=/no/such/python\n")

    with serving(folder, wait=False) as served:
        code, last = served.end()

    assert code == 1 and "option.pythonExecutable must be a Python" in last


@pytest.mark.slow
def test_a_models_own_variables_are_in_its_ranks_and_go_before_the_containers(tmp_path: Path) -> None:
    script = "import os\n\ndef handle(inputs):\n    return [os.environ.get(name) for name in ('TEA', 'CUP', 'RANK')]\n"
    properties = "engine=MPI\noption.env=TEA=green=1,CUP=2\n"

    with serving(write_script(tmp_path / "model", script, properties), {"TEA": "black"}) as served:
        assert served.ask({}).json() == ["green=1", "2", "0"]
