"""Which GPUs a script's processes see and are told: the rule, and real processes with the environment given."""

from __future__ import annotations

from pathlib import Path

import pytest

from heavylift_runtime.engines.devices import devices, gpus, narrowed, told
from heavylift_runtime.errors import LoadError
from heavylift_runtime.options import Options
from tests.served import eventually, serving, write_script

FOUR = {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
ASKS = """
import os
import signal

def handle(inputs):
    if inputs.is_empty():
        return None
    if inputs.get_as_json().get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    properties = inputs.get_properties()
    return {
        "me": os.getpid(),
        "device": properties["device_id"],
        "sees": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "degree": properties.get("tensor_parallel_degree"),
        "rank": os.environ.get("RANK"),
    }
"""


def options(text: str, engine: str = "Python") -> Options:
    return Options.parse(f"engine={engine}\noption.entryPoint=model.py\n{text}", {})


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, ["0", "1"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2, 0", ["2", "0"]),
        ("1,-1,0", ["1"]),
        ("GPU-8932f937-d72c,MIG-GPU-a/1/0", ["GPU-8932f937-d72c", "MIG-GPU-a/1/0"]),
    ],
)
def test_the_environment_says_which_gpus_there_are_before_the_device_files(
    tmp_path: Path, given: str | None, names: list[str]
) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()

    assert gpus({} if given is None else {"CUDA_VISIBLE_DEVICES": given}, tmp_path) == names


def test_the_most_ranks_are_the_gpus_else_the_neuron_devices_else_one(tmp_path: Path) -> None:
    assert devices({}, tmp_path) == 1

    (tmp_path / "neuron0").touch()
    (tmp_path / "neuron1").touch()

    assert devices({}, tmp_path) == 2
    assert devices(FOUR, tmp_path) == 4


@pytest.mark.parametrize(
    ("text", "engine", "copies"),
    [
        ("", "Python", [{"HEAVYLIFT_DEVICE": str(number)} for number in (0, 1, 2, 3, 0)]),
        (
            "option.tensor_parallel_degree=1",
            "Python",
            [{"CUDA_VISIBLE_DEVICES": str(4 + number), "HEAVYLIFT_DEVICE": "0"} for number in (0, 1, 2, 3, 0)],
        ),
        (
            "option.tensor_parallel_degree=2",
            "MPI",
            [{"CUDA_VISIBLE_DEVICES": names, "HEAVYLIFT_DEVICE": "0"} for names in ("4,5", "6,7", "4,5")],
        ),
        (
            "option.tensor_parallel_degree=3",
            "Python",
            [{"CUDA_VISIBLE_DEVICES": "4,5,6", "HEAVYLIFT_DEVICE": "0"}] * 2,
        ),
    ],
)
def test_a_copy_has_a_gpu_or_a_group_of_them_and_more_copies_share_them_in_turn(
    text: str, engine: str, copies: list[dict[str, str]]
) -> None:
    given = options(text, engine)

    assert [told(given, number, FOUR) for number in range(len(copies))] == copies


def test_on_processors_nothing_is_told() -> None:
    none = {"CUDA_VISIBLE_DEVICES": ""}

    assert told(options("option.tensor_parallel_degree=8", "MPI"), 0, none) == {}
    assert told(Options(engine="accelerate", workers=2), 1, none) == {}


def test_of_several_copies_of_an_engine_each_has_a_group_and_the_only_one_sees_all() -> None:
    two = Options(engine="deepspeed", tensor_parallel_degree=2, workers=2)
    placed = Options(engine="accelerate", workers=2, properties={"device_map": "auto"})
    many = Options(engine="deepspeed", tensor_parallel_degree=8, workers=2)

    assert [told(two, copy, FOUR)["CUDA_VISIBLE_DEVICES"] for copy in range(3)] == ["4,5", "6,7", "4,5"]
    assert told(Options(engine="accelerate", workers=4), 3, FOUR)["CUDA_VISIBLE_DEVICES"] == "7"
    assert told(Options(engine="deepspeed", tensor_parallel_degree=2), 0, FOUR) == {}
    assert told(placed, 1, FOUR) == told(many, 1, FOUR) == {}


def test_a_group_of_more_gpus_than_there_are_is_refused_with_both_numbers() -> None:
    with pytest.raises(LoadError, match=r"tensor_parallel_degree=8 .* needs 8 GPUs: this machine has 4"):
        told(options("option.tensor_parallel_degree=8"), 0, FOUR)


def test_a_model_beside_a_script_sees_the_scripts_gpu_unless_it_is_for_several() -> None:
    third = {**FOUR, "HEAVYLIFT_DEVICE": "2"}
    one = Options(engine="accelerate")

    assert narrowed(one, third) == {"CUDA_VISIBLE_DEVICES": "6", "HEAVYLIFT_DEVICE": "0"}
    assert narrowed(one, FOUR) == {}
    assert narrowed(Options(engine="accelerate", tensor_parallel_degree=2), third) == {}
    assert narrowed(Options(engine="accelerate", properties={"device_map": "auto"}), third) == {}


def both(tmp_path: Path, properties: str) -> list[dict[str, object]]:
    """What two copies say, each asked while the other is there, on a machine of four GPUs."""
    folder = write_script(tmp_path / "model", ASKS, f"engine=Python\nminWorkers=2\nmaxWorkers=2\n{properties}")
    found: dict[object, dict[str, object]] = {}
    with serving(folder, FOUR) as served:

        def heard() -> bool:
            answer = served.ask({}).json()
            found[answer.pop("me")] = answer
            return len(found) == 2

        eventually(heard)
    return sorted(found.values(), key=str)


@pytest.mark.slow
def test_each_copy_of_a_script_is_told_a_gpu_of_its_own(tmp_path: Path) -> None:
    seen = {"sees": "4,5,6,7", "degree": None, "rank": None}

    assert both(tmp_path, "") == [{"device": "0", **seen}, {"device": "1", **seen}]


@pytest.mark.slow
def test_each_copy_of_a_script_with_a_degree_sees_a_group_of_its_own(tmp_path: Path) -> None:
    seen = {"device": "0", "degree": "2", "rank": None}

    assert both(tmp_path, "option.tensor_parallel_degree=2\n") == [{**seen, "sees": "4,5"}, {**seen, "sees": "6,7"}]


@pytest.mark.slow
def test_a_copy_that_comes_back_has_the_gpus_that_it_had(tmp_path: Path) -> None:
    properties = "engine=MPI\noption.tensor_parallel_degree=2\n"
    with serving(write_script(tmp_path / "model", ASKS, properties), FOUR) as served:
        before = served.ask({}).json()
        died = served.ask({"die": True})
        after = served.wait().ask({}).json()

    assert died.status_code == 424
    assert before.pop("me") != after.pop("me")
    assert before == after == {"device": "0", "sees": "4,5", "degree": 2, "rank": "0"}


@pytest.mark.slow
def test_too_few_gpus_end_the_server_with_the_sentence(tmp_path: Path) -> None:
    folder = write_script(tmp_path / "model", ASKS, "engine=MPI\noption.tensor_parallel_degree=8\n")
    with serving(folder, FOUR, wait=False) as served:
        code, last = served.end()

    assert code == 1
    assert last.startswith("option.tensor_parallel_degree=8 times option.pipeline_parallel_degree=1 needs 8 GPUs")
