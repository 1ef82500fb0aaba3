"""The CPU image, really built and run as SageMaker runs it: `docker run IMAGE serve`, port 8080, /opt/ml/model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from heavylift_cdk.docker import build_arguments
from heavylift_runtime.options import PROPERTIES
from tests.conftest import ROOT
from tests.docker_engine import BASE, Engine, engine, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
IMAGE = "heavylift-runtime:test"
PINS = (("constraint", "constraints"), ("requirement", "requirements"))
CONFINED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--memory=4g", "--pids-limit=256", "--shm-size=64m")
"""More than SageMaker takes away: what runs so runs there."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """IMAGE, from the repository's own Dockerfile, without any network in the build."""
    context = tmp_path_factory.mktemp("context")
    for folder in ("container", "runtime"):
        shutil.copytree(ROOT / folder, context / folder, ignore=shutil.ignore_patterns("__pycache__"))
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(context / "container" / "wheelhouse")]
    named = (f"--{kind}={context / 'container' / file}.txt" for kind, file in PINS)
    subprocess.run([*wheel, *named], check=True, capture_output=True)
    arguments = {"BASE_IMAGE": BASE, "BUILD_IMAGE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/tmp/wheelhouse"}
    with engine() as started:
        started.import_base()
        started.docker(
            "build", "--quiet", "--network=none", *build_arguments("cpu", IMAGE, str(context), arguments), timeout=800
        )  # as CodeBuild builds it (heavylift_cdk.image_build)
        yield started


@pytest.fixture
def model(tmp_path: Path, tiny_t5: Path) -> Path:
    """/opt/ml/model with tiny-t5 over two ranks."""
    folder = shutil.copytree(tiny_t5, tmp_path / "model")
    (folder / PROPERTIES).write_text("engine=native\noption.tensor_parallel_degree=2\noption.dtype=fp32\n")
    return folder


def run(built: Engine, model: Path, *options: str) -> str:
    """The container's id."""
    return built.docker("run", "--detach", *CONFINED, f"--volume={model}:/opt/ml/model:ro", *options, IMAGE, "serve")


def wait(built: Engine, container: str, url: str) -> None:
    deadline = time.monotonic() + 120
    while built.http(url)[0] != 200:
        running = built.docker("inspect", "--format={{.State.Running}}", container) == "true"
        assert running and time.monotonic() < deadline, built.logs(container)
        time.sleep(0.2)


def test_it_serves_a_read_only_model_without_rights_and_without_a_network(built: Engine, model: Path) -> None:
    container = run(built, model, "--user=1000", "--publish=8080:8080")
    wait(built, container, "http://127.0.0.1:8080/ping")

    body = json.dumps({"inputs": "write as a Roman numeral: 1994", "parameters": {"max_new_tokens": 32}})
    status, answer = built.http("--header", "Content-Type: application/json", "--data", body,
                                "http://127.0.0.1:8080/invocations")  # fmt: skip
    reach = 'import socket; socket.create_connection(("192.0.2.1", 9), 2)'
    outside = built.docker("exec", container, "sh", "-c", f"python -c '{reach}' 2>&1 || true")
    built.docker("stop", "--time=110", container)

    assert status == 200 and json.loads(answer)["outputs"] == ["MCMXCIV"]
    assert "Error" in outside
    assert built.docker("inspect", "--format={{.State.ExitCode}}", container) == "0"


@pytest.mark.parametrize(
    ("accept", "start"), [("text/event-stream", "data: "), ("application/jsonlines", "")], ids=["events", "lines"]
)
def test_it_streams_events_and_lines(built: Engine, streaming: str, accept: str, start: str) -> None:
    body = json.dumps({"inputs": "write as a Roman numeral: 1994", "stream": True, "parameters": {"details": True}})
    status, answer = built.http("--header", f"Accept: {accept}", "--data", body,
                                "--header", "Content-Type: application/json", streaming)  # fmt: skip

    told = [json.loads(line.removeprefix(start)) for line in answer.splitlines() if line.startswith(start) and line]
    assert status == 200
    assert "".join(each["token"]["text"] for each in told) == "MCMXCIV" == told[-1]["generated_text"]


@pytest.fixture(scope="module")
def streaming(built: Engine, tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The /invocations of a container with tiny-t5."""
    folder = shutil.copytree(tiny_t5, tmp_path_factory.mktemp("streaming") / "model")
    (folder / PROPERTIES).write_text("engine=native\n")
    container = run(built, folder, "--publish=8282:8080")
    wait(built, container, "http://127.0.0.1:8282/ping")
    yield "http://127.0.0.1:8282/invocations"
    built.docker("rm", "--force", container)


DRAINS = """
import socket, time
from djl_python import Output

def listening():
    try:
        socket.create_connection(("127.0.0.1", 8080), 5).close()
    except ConnectionRefusedError:
        return False
    return True

def words():
    yield "before"
    while listening():
        time.sleep(0.05)
    yield "after"

def handle(inputs):
    return None if inputs.is_empty() else Output().add_stream_content(words())
"""


def test_a_stream_under_way_is_finished_when_the_container_is_stopped(built: Engine, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(DRAINS)
    container = run(built, tmp_path, "--publish=8080:8080")
    wait(built, container, "http://127.0.0.1:8080/ping")

    with built.stream("--data", "{}", "http://127.0.0.1:8080/invocations") as client, ThreadPoolExecutor(1) as beside:
        assert client.stdout is not None
        before = client.stdout.readline()
        stopping = beside.submit(built.docker, "stop", "--time=110", container)
        after = client.stdout.read()
        stopping.result()

    assert (before, after, client.wait()) == ('{"outputs": "before"}\n', '{"outputs": "after"}\n', 0)
    assert built.docker("inspect", "--format={{.State.ExitCode}}", container) == "0"


def test_it_binds_the_port_that_sagemaker_names_and_says_its_configuration(built: Engine, model: Path) -> None:
    container = run(built, model, "--env=SAGEMAKER_BIND_TO_PORT=8181", "--publish=8181:8181")
    wait(built, container, "http://127.0.0.1:8181/ping")

    labels = json.loads(built.docker("inspect", "--format={{json .Config.Labels}}", IMAGE))
    said = built.logs(container)
    built.docker("rm", "--force", container)

    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert "tensor_parallel_degree=2" in said


def test_a_container_without_a_folder_for_temporary_files_says_so(built: Engine, model: Path) -> None:
    volume = f"--volume={model}:/opt/ml/model:ro"
    container = built.docker("run", "--detach", "--read-only", "--cap-drop=ALL", volume, IMAGE, "serve")

    assert built.docker("wait", container, timeout=120) == "2"
    assert "no folder for temporary files: make /tmp writable, or name one in TMPDIR" in built.logs(container)


def job(built: Engine, root: Path, name: str, *options: str) -> str:
    """A job's container, run to its end as SageMaker does: /opt/ml is the machine's."""
    container = built.docker("run", "--detach", *CONFINED, f"--volume={root}:/opt/ml", *options, IMAGE, name)
    built.docker("wait", container, timeout=300)
    return container


def test_a_processing_job_partitions_what_the_same_image_then_serves(
    built: Engine, tmp_path: Path, tiny_t5: Path
) -> None:
    shutil.copytree(tiny_t5, tmp_path / "processing" / "input" / "model")
    (tmp_path / "processing" / "output" / "model").mkdir(parents=True)

    settings = ("--env=OPTION_TENSOR_PARALLEL_DEGREE=2", "--env=OPTION_DTYPE=fp32")
    done = job(built, tmp_path, "partition", "--network=none", *settings)
    code = built.docker("inspect", "--format={{.State.ExitCode}}", done)

    assert code == "0", built.logs(done)
    container = run(built, tmp_path / "processing" / "output" / "model", "--publish=8080:8080")
    wait(built, container, "http://127.0.0.1:8080/ping")
    body = json.dumps({"inputs": "write as a Roman numeral: 1994", "parameters": {"max_new_tokens": 32}})
    status, answer = built.http("--header", "Content-Type: application/json", "--data", body,
                                "http://127.0.0.1:8080/invocations")  # fmt: skip
    built.docker("rm", "--force", container)
    assert status == 200 and json.loads(answer)["outputs"] == ["MCMXCIV"]


def test_a_training_job_partitions_by_its_hyperparameters(built: Engine, tmp_path: Path, tiny_t5: Path) -> None:
    shutil.copytree(tiny_t5, tmp_path / "input" / "data" / "model")
    for folder in ("input/config", "model", "output"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text('{"tensor_parallel_degree": "2"}')

    done = job(built, tmp_path, "train")

    assert built.docker("inspect", "--format={{.State.ExitCode}}", done) == "0", built.logs(done)
    assert "option.tensor_parallel_degree=2" in (tmp_path / "model" / PROPERTIES).read_text()


def test_a_job_that_fails_tells_sagemaker_why(built: Engine, tmp_path: Path, tiny_t5: Path) -> None:
    shutil.copytree(tiny_t5, tmp_path / "processing" / "input" / "model")

    done = job(built, tmp_path, "partition", "--env=OPTION_TENSOR_PARALLEL_DEGREE=3")

    assert built.docker("inspect", "--format={{.State.ExitCode}}", done) != "0"
    assert "3" in (tmp_path / "output" / "message").read_text()


def test_a_stopped_job_ends_at_once_though_it_is_process_1(built: Engine, tmp_path: Path, tiny_t5: Path) -> None:
    model = shutil.copytree(tiny_t5, tmp_path / "processing" / "input" / "model")
    (model / "config.json").unlink()
    os.mkfifo(model / "config.json")  # opening it waits for ever
    volume = f"--volume={tmp_path}:/opt/ml"
    container = built.docker("run", "--detach", *CONFINED, volume, IMAGE, "partition")
    deadline = time.monotonic() + 60
    while "partition: " not in built.logs(container):
        assert time.monotonic() < deadline, built.logs(container)
        time.sleep(0.2)

    began = time.monotonic()
    built.docker("stop", "--time=110", container)

    assert time.monotonic() - began < 100  # no SIGKILL was needed
    assert "SIGTERM" in (tmp_path / "output" / "message").read_text()


def test_a_model_that_cannot_be_loaded_ends_the_container_with_a_sentence(built: Engine, model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    container = run(built, model)
    code = built.docker("wait", container, timeout=120)

    assert code == "1" and "model.safetensors" in built.logs(container)
