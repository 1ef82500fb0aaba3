"""SageMaker's jobs in the container: folders, settings, sentences, exit codes; as real processes where it matters."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from heavylift_runtime.job import MOST_TOLD, run_job
from heavylift_runtime.options import PROPERTIES, Options
from tests.served import serving


@pytest.fixture
def opt_ml(tmp_path: Path, tiny_t5: Path) -> Path:
    """/opt/ml of a Processing job and of a Training job, with tiny-t5 as their input."""
    for place in ("processing/input/model", "input/data/model"):
        shutil.copytree(tiny_t5, tmp_path / "ml" / place)
    for place in ("processing/output/model", "model", "input/config"):
        (tmp_path / "ml" / place).mkdir(parents=True)
    return tmp_path / "ml"


def start(opt_ml: Path, command: str, **environ: str) -> subprocess.Popen[str]:
    given = {"HEAVYLIFT_OPT_ML": str(opt_ml), "OMP_NUM_THREADS": "1", **environ}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "heavylift_runtime", "job", command],
        env=os.environ | given,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(opt_ml: Path, command: str, environ: Mapping[str, str] | None = None) -> int:
    """In this process: for what fails before anything is computed."""
    return run_job(command, {"HEAVYLIFT_OPT_ML": str(opt_ml)} | dict(environ or {}))


def told(opt_ml: Path, name: str = "message") -> str:
    """What SageMaker shows of a job that failed."""
    return (opt_ml / "output" / name).read_text()


@pytest.mark.slow
def test_a_processing_job_makes_a_folder_that_is_served_as_it_is(opt_ml: Path) -> None:
    (opt_ml / "processing/input/model" / PROPERTIES).write_text("engine=native\nbatch_size=4\n")

    with start(opt_ml, "partition", OPTION_TENSOR_PARALLEL_DEGREE="2", OPTION_DTYPE="fp32") as job:
        _, said = job.communicate(timeout=120)

    made = opt_ml / "processing/output/model"
    assert job.returncode == 0, said
    assert "tensor_parallel_degree=2" in said
    assert (made / PROPERTIES).read_text().splitlines() == [
        "engine=native", "batch_size=4", "option.dtype=fp32", "option.tensor_parallel_degree=2",
    ]  # fmt: skip
    assert not (opt_ml / "output").exists()
    with serving(made) as served:
        answer = served.ask({"inputs": "write as a Roman numeral: 1994", "parameters": {"max_new_tokens": 32}})
    assert answer.json()["outputs"] == ["MCMXCIV"]


@pytest.mark.slow
def test_a_training_job_reads_its_hyperparameters_which_are_texts(opt_ml: Path) -> None:
    settings = {"tensor_parallel_degree": "2", "option.quantize": "int8", "sagemaker_region": '"eu-west-1"'}
    (opt_ml / "input/config/hyperparameters.json").write_text(json.dumps(settings))

    with start(opt_ml, "train", OPTION_TENSOR_PARALLEL_DEGREE="4") as job:
        _, said = job.communicate(timeout=120)

    assert job.returncode == 0, said
    manifest = json.loads((opt_ml / "model/partition.json").read_text())
    assert (manifest["tensor_parallel_degree"], manifest["quantization"]) == (2, "int8")
    assert Options.load(opt_ml / "model", {}).quantize == "int8"


@pytest.mark.slow
def test_a_job_that_is_stopped_says_so_and_leaves_no_manifest(opt_ml: Path) -> None:
    config = opt_ml / "processing/input/model/config.json"
    config.unlink()
    os.mkfifo(config)  # opening it waits for ever

    with start(opt_ml, "partition", OPTION_TENSOR_PARALLEL_DEGREE="2") as job:
        assert job.stderr is not None
        assert "partition: " in job.stderr.readline()
        job.send_signal(signal.SIGTERM)
        job.communicate(timeout=30)

    assert job.returncode == 1
    assert told(opt_ml) == "the job was stopped before it had finished (SIGTERM)"
    assert not (opt_ml / "processing/output/model/partition.json").exists()


@pytest.mark.slow
def test_a_second_job_into_the_same_folder_is_refused(opt_ml: Path) -> None:
    environ = {"OPTION_TENSOR_PARALLEL_DEGREE": "2"}

    assert run(opt_ml, "partition", environ) == 0
    assert run(opt_ml, "partition", environ) == 2

    assert "holds a partition already" in told(opt_ml)


@pytest.mark.slow
def test_the_files_precede_the_environment_as_in_lmi(opt_ml: Path) -> None:
    (opt_ml / "processing/input/model" / PROPERTIES).write_text("option.tensor_parallel_degree=4\n")

    assert run(opt_ml, "partition", {"OPTION_TENSOR_PARALLEL_DEGREE": "2"}) == 0

    made = opt_ml / "processing/output/model"
    assert len(list(made.glob("rank-*-of-004.safetensors"))) == 4


SCRIPT = """
from pathlib import Path
import os
from djl_python import Input, Output

def partition(inputs: Input) -> None:
    target = Path(inputs.get_property("save_mp_checkpoint_path"))
    rank, tea = os.environ.get("RANK", "0"), os.environ["TEA"]
    (target / f"part-{rank}").write_text(f"{inputs.get_property('tensor_parallel_degree')} {inputs.is_empty()} {tea}")

def handle(inputs):
    if inputs.is_empty():
        return None
    folder = Path(inputs.get_property("model_dir"))
    return {file.name: file.read_text() for file in sorted(folder.glob("part-*"))}
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["Python", "MPI"])
def test_a_script_of_a_users_own_partitions_and_is_served_from_what_it_wrote(tmp_path: Path, engine: str) -> None:
    source, made = tmp_path / "processing/input/model", tmp_path / "processing/output/model"
    source.mkdir(parents=True)
    (source / "model.py").write_text(SCRIPT)
    (source / "tokenizer.json").write_text("{}")
    said = f"engine={engine}\noption.env=TEA=green\n"
    (source / PROPERTIES).write_text(f"{said}option.model_id=/none\noption.tensor_parallel_degree=2\n")

    assert run(tmp_path, "partition") == 0

    ranks = range(2 if engine == "MPI" else 1)
    assert (made / PROPERTIES).read_text() == f"{said}option.tensor_parallel_degree=2\n"
    assert (made / "tokenizer.json").exists()
    with serving(made) as served:
        assert served.ask({}).json() == {f"part-{rank}": "2 True green" for rank in ranks}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("def handle(inputs): pass", "model.py has no function 'partition'"),
        ("def partition(inputs): pass", "wrote nothing to save_mp_checkpoint_path"),
        ("def partition(inputs): raise KeyError('shards')", "the script failed its partition(inputs): KeyError"),
        ("def partition(inputs): raise SystemExit(3)", "rank 0 of the model ended with code 3"),
    ],
)
def test_a_script_that_does_not_partition_fails_its_job_with_the_reason(
    tmp_path: Path, script: str, sentence: str
) -> None:
    source = tmp_path / "processing/input/model"
    source.mkdir(parents=True)
    (source / "model.py").write_text(script)

    assert run(tmp_path, "partition") == 1

    assert sentence in told(tmp_path)


def test_a_training_job_says_why_it_failed_where_sagemaker_looks(opt_ml: Path) -> None:
    (opt_ml / "input/config/hyperparameters.json").write_text('{"tensor_parallel_degre": "2"}')

    assert run(opt_ml, "train") == 2

    assert told(opt_ml, "failure").startswith("unknown key 'option.tensor_parallel_degre'")
    assert "did you mean 'option.tensor_parallel_degree'" in told(opt_ml, "failure")


@pytest.mark.parametrize("written", ["[]", '{"tensor_parallel_degree": 2}', "{", "[" * 100_000])
def test_hyperparameters_that_sagemaker_would_not_write_are_refused(opt_ml: Path, written: str) -> None:
    (opt_ml / "input/config/hyperparameters.json").write_text(written)

    assert run(opt_ml, "train") == 2

    assert "hyperparameters.json" in told(opt_ml, "failure")


def test_a_long_sentence_is_cut_to_what_sagemaker_takes(opt_ml: Path) -> None:
    given = {f"OPTION_{'X' * 60}{number}": "1" for number in range(100)}

    assert run(opt_ml, "partition", given) == 2

    assert len(told(opt_ml)) == MOST_TOLD


@pytest.mark.parametrize(
    ("command", "environ", "sentence"),
    [
        ("partition", {"OPTION_TENSOR_PARALLEL_DEGREE": "max"}, "give a job the number"),
        ("partition", {"OPTION_ENGINE": "Python", "OPTION_ENTRYPOINT": "djl_python.huggingface"}, "as it is"),
        ("partition", {"OPTION_QUANTIZE": "int3"}, "option.quantize=int3"),
        ("compile", {}, "engine native has no compiler"),
    ],
)
def test_what_an_engine_does_not_need_ahead_of_time_is_refused(
    opt_ml: Path, command: str, environ: dict[str, str], sentence: str
) -> None:
    assert run(opt_ml, command, environ) == 2

    assert sentence in told(opt_ml)


def test_a_job_without_its_input_names_the_folder(tmp_path: Path) -> None:
    assert run(tmp_path, "partition") == 2

    assert f"no folder '{tmp_path}/processing/input/model'" in told(tmp_path)


def test_a_checkpoint_that_is_none_fails_with_the_loaders_sentence(opt_ml: Path) -> None:
    for file in (opt_ml / "processing/input/model").iterdir():
        file.unlink()

    assert run(opt_ml, "partition", {"OPTION_TENSOR_PARALLEL_DEGREE": "2"}) == 1

    assert "config.json" in told(opt_ml)


def test_a_place_that_cannot_be_written_to_does_not_hide_the_fault(
    opt_ml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (opt_ml / "output").write_text("a file, no folder")

    assert run(opt_ml, "compile") == 2

    assert "engine native has no compiler" in capsys.readouterr().err


def test_the_signal_of_the_process_is_as_before(opt_ml: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    run(opt_ml, "compile")

    assert signal.getsignal(signal.SIGTERM) is before
