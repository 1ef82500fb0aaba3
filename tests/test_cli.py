"""The command line: what it refuses, and with which exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heavylift.cli import COMMANDS, main
from tests.conftest import ROOT


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A copy of models/ in a checkout's shape."""
    shutil.copytree(ROOT / "models", tmp_path / "models")
    for name in ("app.py", "cdk.json"):
        (tmp_path / name).touch()
    return tmp_path / "models"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_its_arguments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])

    assert ended.value.code == 0
    assert f"usage: heavylift {name}" in capsys.readouterr().out


def test_help_loads_no_aws_library_and_no_torch() -> None:
    code = "import sys, heavylift.cli; print(*sorted({'boto3', 'torch', 'pydantic', 'rich'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "\n"


def test_a_faulty_file_is_refused_with_every_fault_and_exit_code_2(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = models / "tiny-t5.yaml"
    file.write_text(file.read_text() + "tensor_paralel_degree: 2\nvolume_size_in_gb: 513\n")

    code = main(["validate", str(file)])

    said = capsys.readouterr().err
    assert code == 2
    assert "did you mean 'tensor_parallel_degree'?" in said
    assert "513" in said


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "has no weights"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "model.safetensors is truncated"),
    ],
)
def test_missing_or_truncated_weights_are_refused_before_anything_is_deployed(
    models: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], said: str
) -> None:
    damage(models / "tiny-t5" / "model.safetensors")
    lock = (models / "tiny-t5.lock").read_bytes()

    code = main(["plan", str(models / "tiny-t5.yaml")])

    assert code == 2
    assert said in capsys.readouterr().err
    assert (models / "tiny-t5.lock").read_bytes() == lock


def test_up_without_local_says_which_command_reaches_an_account(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", str(models / "tiny-t5.yaml")]) == 2
    assert "heavylift deploy" in capsys.readouterr().err


def test_a_command_that_needs_the_embedded_aws_says_how_to_start_it(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invoke", str(models / "tiny-t5.yaml"), "hello", "--local"]) == 2
    assert "start it with `heavylift up FILE --local`" in capsys.readouterr().err


def test_ls_shows_the_sound_models_and_says_what_is_wrong_with_the_others(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (models / "broken.yaml").write_text("name: broken\n")
    monkeypatch.chdir(models.parent)

    code = main(["ls", "--json"])

    printed = capsys.readouterr()
    assert code == 2
    assert {row["name"] for row in json.loads(printed.out)} >= {"tiny-t5", "tiny-t5-script"}
    assert "broken.yaml" in printed.err


def test_judge_gives_the_verdict_again_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    samples = ROOT / "tests" / "golden" / "benchmark" / "good" / "samples.jsonl.gz"

    code = main(["judge", str(samples), "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "PASS"


def test_an_account_without_credentials_or_region_is_a_sentence(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.chdir(models.parent)

    code = main(["status", "--account"])

    assert (code, capsys.readouterr().err) == (1, "AWS: You must specify a region.\n")


def test_what_the_file_system_refuses_is_a_sentence(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models.parent / ".heavylift").write_text("no folder")

    code = main(["synth", str(models / "tiny-t5.yaml")])

    assert (code, capsys.readouterr().err) == (1, f"'{models.parent}/.heavylift': File exists\n")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m heavylift.cli schema | true"

    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)

    assert done.stderr == ""


def test_boto3_goes_to_the_region_that_the_cdk_goes_to(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    main(["validate", str(models / "tiny-t5.yaml")])

    assert os.environ["AWS_DEFAULT_REGION"] == "eu-west-1"


def test_a_terminal_that_cannot_show_a_sign_gets_another(models: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "heavylift.cli", "plan", str(models / "tiny-t5.yaml")]

    done = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert (done.returncode, "1 ? ml." in done.stdout) == (0, True), done.stderr
