"""The command line: what it refuses, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heavylift.cli import COMMANDS, EXAMPLES, arguments_of, main
from heavylift.local import toolchain
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
    text = capsys.readouterr().out
    assert f"usage: heavylift {name}" in text and f"\nexample:\n  heavylift {name}" in text
    assert all(options.get("help") for _, options in COMMANDS[name][2])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_that_is_taken(name: str) -> None:
    parts = shlex.split(EXAMPLES[name])

    arguments_of(name).parse_intermixed_args(parts[: parts.index(">")] if ">" in parts else parts)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["vlidate", "x.yaml"], "there is no command 'vlidate'; did you mean 'validate'?\n"),
        (["xyzzy"], "there is no command 'xyzzy'; `heavylift --help` lists them\n"),
        ([], "usage: heavylift [-h]"),
    ],
)
def test_a_command_that_there_is_not_is_answered_with_the_nearest(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(told)


def test_a_misspelt_flag_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "x.yaml", "--explian=memory"])

    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("unrecognized arguments: --explian=memory; did you mean '--explain'?\n")


@pytest.mark.parametrize("command", [["plan"], ["validate"], ["bench"], ["calibrate"]])
def test_a_failure_is_a_json_document_too_where_one_is_asked_for(
    command: list[str], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = models / "tiny-t5.yaml"
    file.write_text(file.read_text() + "x: 1\ny: 2\n")

    code = main([*command, str(file), "--json"])

    told = capsys.readouterr()
    document = json.loads(told.out)
    assert document["exit_code"] == code == 2
    assert len(document["failed"]) == 2 and document["failed"] == told.err.splitlines()


def test_a_valid_file_is_told_with_its_environments_as_json(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = models / "llama-3-1-8b.yaml"

    assert main(["validate", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "valid": True, "environments": ["gpu"]}


def test_a_run_that_is_not_there_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"cannot read {tmp_path / 'none'}: No such file or directory\n"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"heavylift \d+\.\d+\.\d+\n", capsys.readouterr().out)


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


def test_a_name_that_no_folder_can_have_is_the_files_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"name: x\nmodel: {{path: {'a' * 300}}}\nengine: native\n")

    assert main(["validate", str(file)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "x.yaml:2:15: 'model.path' must be a folder beside this file" in said


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


@pytest.mark.slow
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


def test_a_folder_for_templates_that_cannot_be_made_is_told_before_anything_is_synthesized(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["synth", str(models / "tiny-t5.yaml"), "--output", str(models / "tiny-t5.yaml" / "templates")])

    assert code == 1
    assert capsys.readouterr().err.endswith(f"'{models}/tiny-t5.yaml/templates': Not a directory\n")


@pytest.mark.slow
def test_synth_without_a_file_writes_the_templates_of_the_whole_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toolchain.cdk(ROOT)
    for name in ("cdk.json", "package.json", "package-lock.json", "node_modules"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "app.py").write_text(
        "from aws_cdk import App, CfnWaitConditionHandle, Stack\n"
        "app = App()\n"
        "for name in ('one', 'two'):\n"
        "    CfnWaitConditionHandle(Stack(app, name), 'Handle')\n"
        "app.synth()\n"
    )
    monkeypatch.chdir(tmp_path)

    code = main(["synth", "--output", "templates"])

    assert (code, capsys.readouterr().out) == (0, f"{tmp_path}/templates\n")
    assert {each.name for each in (tmp_path / "templates").glob("*.template.json")} == {
        "one.template.json", "two.template.json",
    }  # fmt: skip

    (tmp_path / "app.py").write_text("raise SystemExit('no model file')\n")
    code = main(["synth"])

    said = capsys.readouterr().err
    assert code == 1 and "no model file" in said and said.endswith("its lines are above\n")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m heavylift.cli schema | true"

    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)

    assert done.stderr == ""


IMPORTS = """
import os, signal, sys
from heavylift.__main__ import main

class Moment:
    left = int(sys.argv.pop(1))

    def find_spec(self, name, path=None, target=None):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        self.left -= 1

before = Moment.left
sys.meta_path.insert(0, moment := Moment())
code = main()
print(before - moment.left, file=sys.stderr)
sys.exit(code)
"""
"""A process of the command that is interrupted as it begins the import of a module, the one after so many."""


@pytest.mark.slow
def test_an_interrupt_while_the_command_is_still_being_imported_is_a_word_and_no_traceback(models: Path) -> None:
    def run(moment: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", IMPORTS, str(moment), "validate", str(models / "tiny-t5.yaml")]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    whole = run(10**6)
    imports = int(whole.stderr)
    assert whole.returncode == 0 and imports > 50, whole

    moments = [(imports - 1) * part // 7 for part in range(8)]
    ends = [run(moment) for moment in moments]

    assert [(end.returncode, end.stderr.splitlines()[0]) for end in ends] == [(130, "interrupted")] * len(moments)
    assert not [end.stderr for end in ends if "Traceback" in end.stderr]


def test_boto3_goes_to_the_region_that_the_cdk_goes_to(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    main(["validate", str(models / "tiny-t5.yaml")])

    assert os.environ["AWS_DEFAULT_REGION"] == "eu-west-1"


@pytest.mark.slow
def test_a_terminal_that_cannot_show_a_sign_gets_another(models: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "heavylift.cli", "plan", str(models / "tiny-t5.yaml")]

    done = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert (done.returncode, "1 ? ml." in done.stdout) == (0, True), done.stderr


def test_a_search_for_capacity_that_could_only_be_void_is_refused_before_it_sends(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = ["bench", str(models / "tiny-t5.yaml"), "--url", "http://127.0.0.1:9/invocations", "--find-capacity"]

    code = main([*search, "--rate", "0.5", "--seconds", "60"])

    told = capsys.readouterr().err
    assert code == 2 and re.search(
        r"the targets need \d+ s of requests at --rate 0\.5: give so many, or begin at", told
    )
