"""`heavylift plan` with its questions: --explain, --fleet, --simulate, --html, --png; through the real command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from heavylift.cli import main
from tests.locked import lock_of

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
MEASURED = ROOT / "benchmarks" / "results" / "calibrate_tiny_t5.json"
BUCKETS = [
    {"input_tokens": 20, "output_tokens": 16, "share": 0.6},
    {"input_tokens": 100, "output_tokens": 64, "share": 0.4},
]


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Path]:
    """tiny-t5's model file with its weights, in a folder of its own."""
    shutil.copytree(MODELS / "tiny-t5", tmp_path / "tiny-t5")
    for name in ("tiny-t5.yaml", "tiny-t5.lock"):
        shutil.copy(MODELS / name, tmp_path)
    yield tmp_path / "tiny-t5.yaml"


def fleet_file(folder: Path, **fields: Any) -> Path:
    document = {"format": "heavylift.fleet/1", "requests_per_second": 20, "buckets": BUCKETS, **fields}
    path = folder / "fleet.json"
    path.write_text(json.dumps(document))
    return path


def trace_file(folder: Path, count: int = 60) -> Path:
    path = folder / "trace.jsonl"
    lines = [{"arrival_s": 0.05 * place, "input_tokens": 10, "output_tokens": 8} for place in range(count)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_field_is_explained(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "plan", model, "--explain", "tensor_parallel_degree")

    assert code == 0 and text.startswith("tensor_parallel_degree = 2 (given)") and "memory of the host" in text

    code, text, _ = run(capsys, "plan", model, "--explain", "memory", "--json")
    assert code == 0 and json.loads(text)[0]["rows"][0]["what"] == "weights"


def test_an_unknown_field_is_the_users_fault(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, fault = run(capsys, "plan", model, "--explain", "instanc_type")

    assert code == 2 and "did you mean instance_type" in fault


def test_pages_and_pictures_are_written_beside_the_text(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html, png = model.with_suffix(".html"), model.with_suffix(".png")

    code, text, _ = run(capsys, "plan", model, "--html", html, "--png", png)

    assert code == 0 and "decisions" in text
    assert html.read_text().startswith("<!DOCTYPE html>") and png.read_bytes()[:4] == b"\x89PNG"
    code, _, fault = run(capsys, "plan", model, "--png", model.parent / "no" / "such.png")
    assert code == 2 and "cannot write" in fault


def test_a_fleet_of_computed_throughputs_is_a_valid_configuration(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = fleet_file(model.parent, types={"ml.c6i.large": {}, "ml.c6i.xlarge": {"at_most": 3}, "ml.c7i.2xlarge": {}})

    code, text, _ = run(capsys, "plan", model, "--fleet", file, "--json")

    answer = json.loads(text)
    assert code == 0 and answer["format"] == "heavylift.fleet-answer/1"
    assert answer["gap"] == 0 and answer["usd_per_hour"] > 0
    assert answer["problem"]["head_room"] == 0.1  # nobody measured
    shape = get_session().get_service_model("sagemaker").operation_model("CreateEndpointConfig").input_shape
    assert not ParamValidator().validate(answer["endpoint_config"], shape).has_errors()
    variant = answer["endpoint_config"]["ProductionVariants"][0]
    assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] >= 60 and variant["VolumeSizeInGB"] >= 1

    code, text, _ = run(capsys, "plan", model, "--fleet", file)
    assert code == 0 and "proven optimal (gap 0)" in text and "one type alone" in text


def test_a_fleet_of_measured_throughputs_needs_no_speed_of_the_model(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model.parent / "profiles.csv").write_text(
        "instance_type,usd_per_hour,input_tokens,output_tokens,requests_per_second\n"
        "ml.g5.xlarge,1.408,20,16,30\nml.g5.xlarge,1.408,100,64,2\n"
        "ml.g6e.xlarge,2.6054,20,16,40\nml.g6e.xlarge,2.6054,100,64,9\n"
    )
    file = fleet_file(model.parent, profiles="profiles.csv")

    code, text, _ = run(capsys, "plan", model, "--fleet", file, "--json")

    answer = json.loads(text)
    assert code == 0 and answer["computed"] == {} and answer["problem"]["head_room"] == 0
    assert {part["type"]: part["count"] for part in answer["types"]} == {"ml.g5.xlarge": 1, "ml.g6e.xlarge": 1}


def test_melanges_own_file_is_answered(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model.parent / "melange.json"
    gpus = {"small": {"cost": 1.0, "tputs": [[4.0]]}, "large": {"cost": 3.0, "tputs": [[10.0]]}}
    path.write_text(json.dumps({"gpu_info": gpus, "workload_distribution": [[1.0]], "total_request_rate": 13.0}))

    code, text, _ = run(capsys, "plan", model, "--fleet", path, "--json")

    answer = json.loads(text)
    assert code == 0 and answer["usd_per_hour"] == 4.0 and answer["endpoint_config"] is None


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"types": {"ml.c6i.larg": {}}}, "no facts about instance type 'ml.c6i.larg'; did you mean ml.c6i.large"),
        ({"types": {"ml.c6i.large": {"at_most": 0}}}, "no offered type (ml.c6i.large) serves"),
        ({"types": {"gpu": {"throughput": [1, 1]}}}, "no price of gpu is known; give 'types.gpu.usd_per_hour'"),
        ({"profiles": "../profiles.csv"}, "'profiles' must lie beside the fleet file, or below; got ../profiles.csv"),
        ({"profiles": "none.csv"}, "cannot read"),
        ({"slo": {"tpot_ms": 1e-6}, "types": {"ml.c6i.large": {}}}, "ml.c6i.large serves none of the sizes within"),
        ({"tips": 1}, "unknown key 'tips'; did you mean 'types'?"),
    ],
)
def test_a_fleet_that_cannot_be_is_refused_with_a_sentence(
    model: Path, capsys: pytest.CaptureFixture[str], fields: dict[str, Any], fault: str
) -> None:
    code, _, said = run(capsys, "plan", model, "--fleet", fleet_file(model.parent, **fields))

    assert code == 2 and fault in said


def test_a_trace_is_simulated_on_every_valid_plan(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "plan", model, "--simulate", trace_file(model.parent), "--json")

    answer = json.loads(text)
    assert code == 0 and answer["format"] == "heavylift.simulation/1"
    assert {(plan["tensor_parallel_degree"], plan["copies"]) for plan in answer["plans"]} >= {(1, 2), (2, 1)}
    assert all(plan["latency_s"]["p50"] <= plan["latency_s"]["p99"] for plan in answer["plans"])
    assert answer["times_from"].startswith("60 requests; times of an iteration")

    code, text, _ = run(capsys, "plan", model, "--simulate", trace_file(model.parent))
    assert code == 0 and "parallel plans, the best first" in text and "next is" in text


def test_a_fleet_and_a_simulation_count_with_measurements_and_say_so(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = fleet_file(model.parent, types={"ml.c6i.xlarge": {}})
    trace = trace_file(model.parent)
    answers: dict[str, list[Any]] = {"--fleet": [], "--simulate": []}

    for question, file in (("--fleet", fleet), ("--simulate", trace)):
        for known in ((), ("--measured", MEASURED)):
            code, text, said = run(capsys, "plan", model, question, file, "--json", *known)
            assert code == 0, said
            answers[question].append(json.loads(text))

    assumed, measured = answers["--simulate"]
    assert "uncalibrated" in assumed["times_from"] and "measured: native local on cpu" in measured["times_from"]
    assert assumed["plans"][0]["latency_s"] != measured["plans"][0]["latency_s"]
    assumed, measured = answers["--fleet"]
    assert assumed["problem"] != measured["problem"]


def test_bad_lines_of_a_trace_are_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model.parent / "trace.jsonl"
    path.write_text('{"arrival_s": 0, "input_tokens": 1, "output_tokens": 1}\nnonsense\n{"arrival_s": -1}\n')

    code, _, fault = run(capsys, "plan", model, "--simulate", path)

    assert code == 2 and f"{path}:2: not JSON" in fault and f"{path}:3: 'input_tokens' is missing" in fault


def test_vllm_on_gpus_is_simulated_though_this_version_cannot_run_it(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    file = _llama(model, config)

    code, text, fault = run(capsys, "plan", file, "--simulate", trace_file(file.parent), "--engine", "vllm", "--json")

    assert code == 0, fault
    plans = json.loads(text)["plans"]
    assert {(plan["tensor_parallel_degree"], plan["copies"]) for plan in plans} >= {(1, 4), (2, 2), (4, 1)}


def _llama(model: Path, config: dict[str, Any]) -> Path:
    """A model file of which only the lock is there: 16 GB of weights that nobody has to hold."""
    lock = lock_of(config, size=16_060_000_000, dtype="bf16", parameters=8_030_000_000, source="path:llama")
    file = model.with_name("llama.yaml")
    file.write_text("name: llama\nmodel: {path: llama}\ninstance_type: ml.g5.12xlarge\n")
    lock.write(file.with_suffix(".lock"))
    return file


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--fleet", "f", "--simulate", "t"], "two questions"),
        (["--engine", "vllm"], "--engine belongs to --fleet and --simulate"),
        (["--fleet", "/no/such/file"], "cannot read /no/such/file"),
        (["--simulate", "/no/such/file"], "cannot read /no/such/file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str
) -> None:
    code, _, said = run(capsys, "plan", model, *arguments)

    assert code == 2 and fault in said


def test_an_unknown_engine_is_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = run(capsys, "plan", model, "--simulate", trace_file(model.parent), "--engine", "vlm")

    assert code == 2 and "vllm" in said


def test_the_help_is_there_without_the_solver(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--help"])

    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--explain", "--fleet", "--simulate", "--html", "--png"))
