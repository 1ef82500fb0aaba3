"""serving.properties and the environment become Options, or sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime.errors import OptionsError
from heavylift_runtime.keys import known_keys
from heavylift_runtime.options import Options, model_folder


def faults(text: str, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(OptionsError) as caught:
        Options.parse(text, environ or {})
    return caught.value.faults


def test_a_value_is_everything_after_the_first_equals_sign() -> None:
    options = Options.parse("engine=Python\noption.prefix= a=b#c\n# a comment\n! another\n\n", {})

    assert options.properties == {"prefix": "a=b#c"}


def test_the_file_wins_over_option_variables_and_serving_variables_win_over_the_file() -> None:
    text = "engine=native\noption.dtype=fp32\nbatch_size=4\n"
    environ = {
        "OPTION_DTYPE": "bf16",
        "OPTION_MODEL_ID": "s3://bucket/weights/abc/",
        "TENSOR_PARALLEL_DEGREE": "2",
        "SERVING_BATCH_SIZE": "8",
        "SERVING_MAX_WORKERS": "3",
        "PATH": "/bin",
    }

    options = Options.parse(text, environ)

    assert (options.dtype, options.model_id) == ("fp32", "s3://bucket/weights/abc/")
    assert (options.tensor_parallel_degree, options.batch_size, options.workers) == (2, 8, 3)


def test_where_no_container_is_a_folder_stands_for_sagemakers() -> None:
    text = (
        "option.entryPoint=djl_python.vllm\n"
        "option.speculative_draft_model=/opt/ml/additional-model-data-sources/draft\n"
    )
    environ = {"HEAVYLIFT_OPT_ML": "/home/me/endpoint", "OPTION_MODEL_ID": "/opt/ml/model", "OPTION_TASK": "/opt/mlx"}

    options = Options.parse(text, environ)

    assert options.model_id == "/home/me/endpoint/model"
    assert options.properties["speculative_draft_model"] == "/home/me/endpoint/additional-model-data-sources/draft"
    assert options.properties["task"] == "/opt/mlx"


def test_the_environment_alone_is_enough() -> None:
    environ = {"OPTION_ENGINE": "Python", "OPTION_ENTRYPOINT": "serve.py", "HF_MODEL_ID": "/opt/ml/model"}

    options = Options.parse("", environ)

    assert (options.engine, options.entry_point, options.model_id) == ("script", "serve.py", "/opt/ml/model")


def test_every_fault_is_listed_at_once_with_the_nearest_key() -> None:
    found = faults("engine=native\nbatch_sise=4\noption.dtype=fp8\noption.tensor_parallel_degree=two\n")

    assert found == (
        "unknown key 'batch_sise' for engine native: did you mean 'batch_size'?",
        "option.dtype must be 'auto' or 'fp32' or 'fp16' or 'bf16': got 'fp8'",
        "option.tensor_parallel_degree must be a whole number from 1 to 64, or 'max': got 'two'",
    )


@pytest.mark.parametrize("number", ["-1", "0", "1.0", "1_0", "٣", "", "9" * 5000, "+1", "1e3", "True"])
def test_a_number_is_plain_digits_in_its_range(number: str) -> None:
    assert "batch_size must be a whole number from 1 to 1024" in faults(f"batch_size={number}")[0]


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    assert faults("batch_size=1\n\nbatch_size=2") == (
        "serving.properties: 'batch_size' is given twice, in lines 1 and 3: keep one of them",
    )


def test_lines_that_two_readers_of_java_properties_see_differently_are_refused() -> None:
    assert faults("option.a=b\\\nengine") == (
        "serving.properties: line 1 ends in a backslash: write the value of 'option.a' in one line",
        "serving.properties: line 2 is not 'key=value': got 'engine'",
    )


def test_a_key_of_the_script_engine_is_refused_for_native() -> None:
    assert faults("engine=native\noption.handler=answer") == (
        "'option.handler' is a key of engine script, not of native: remove it",
    )


def test_a_script_is_handed_every_other_option() -> None:
    options = Options.parse("engine=Python\noption.temperature_of_tea=hot\noption.dtype=fp32", {"OPTION_LEMON": "yes"})

    assert options.properties == {"temperature_of_tea": "hot", "dtype": "fp32", "lemon": "yes"}


@pytest.mark.parametrize(
    ("text", "capacity"),
    [
        ("", 32),
        ("batch_size=4", 4),
        ("batch_size=4\noption.max_rolling_batch_size=8", 8),
        ("batch_size=4\noption.max_rolling_batch_size=8\noption.rolling_batch=disable", 4),
    ],
)
def test_how_many_rows_run_at_once(text: str, capacity: int) -> None:
    assert Options.parse(f"engine=native\n{text}", {}).capacity == capacity


def test_what_the_engine_has_not_is_refused() -> None:
    text = "engine=native\noption.quantize=gguf\noption.rolling_batch=vllm\nthrottle_http_code=418"
    text += "\noption.generation_config=vlm"

    assert [fault.split(" ")[0] for fault in faults(text)] == [
        "option.quantize=gguf",
        "option.rolling_batch=vllm",
        "throttle_http_code",
        "option.generation_config",
    ]


def test_the_folder_of_an_archive_of_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model" / "serving.properties").write_text("engine=native\n")

    assert model_folder(tmp_path) == tmp_path / "my-model"

    (tmp_path / "serving.properties").write_text("engine=native\n")

    assert model_folder(tmp_path) == tmp_path


def test_a_reply_may_take_the_hour_of_an_asynchronous_endpoint() -> None:
    options = Options.parse("max_request_size=1073741824", {"SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "3600"})

    assert (options.predict_timeout, options.max_request_size) == (3600, 2**30)


def test_a_model_py_in_the_folder_is_the_script_also_with_lmi_s_other_engines(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    (tmp_path / "serving.properties").write_text("engine=DeepSpeed\noption.tensor_parallel_degree=max\n")

    options = Options.load(tmp_path, {"CUDA_VISIBLE_DEVICES": "1,2,3"})

    assert (options.engine, options.entry_point, options.tensor_parallel_degree) == ("script", "model.py", 3)


@pytest.mark.parametrize(
    ("environ", "engine", "mpi"),
    [
        ({"SERVING_LOAD_MODELS": "test::MPI=/opt/ml/model"}, "MPI", True),
        ({"SERVING_LOAD_MODELS": "test::Python=/opt/ml/model"}, "Python", False),
        ({"OPTION_ENGINE": "DeepSpeed"}, "DeepSpeed", True),
        ({"OPTION_MPI_MODE": "true"}, "Python", True),
        ({}, "Python", False),
    ],
)
def test_the_environment_names_the_engine_of_a_model_py_without_a_file(
    tmp_path: Path, environ: dict[str, str], engine: str, mpi: bool
) -> None:
    (tmp_path / "model.py").write_text("")

    options = Options.load(tmp_path, {"TENSOR_PARALLEL_DEGREE": "2", **environ})

    assert (options.engine, options.spelling, options.mpi_mode) == ("script", engine, mpi)
    assert options.ranks == (2 if mpi else 1)


@pytest.mark.parametrize(
    ("entry_point", "named"),
    [
        ("djl_python.lmi_vllm.vllm_async_service", {"rolling_batch": "vllm"}),
        ("djl_python.transformers_neuronx", {"rolling_batch": "tnx"}),
        ("djl_python.huggingface", {}),
    ],
)
def test_formatters_beside_a_no_code_engine_are_a_script_that_knows_its_engine(
    tmp_path: Path, entry_point: str, named: dict[str, str]
) -> None:
    (tmp_path / "serving.properties").write_text(f"engine=Python\noption.entryPoint={entry_point}\n")
    (tmp_path / "model.py").write_text("# of no use to it\n")
    plain = Options.load(tmp_path, {})
    (tmp_path / "model.py").write_text("import x\n\n@x.output_formatter\ndef write(answer: dict) -> dict: ...\n")

    options = Options.load(tmp_path, {})

    assert (plain.engine, plain.entry_point) != ("script", "model.py")
    assert (options.engine, options.entry_point, options.spelling) == ("script", "model.py", "Python")
    assert dict(options.properties) == {"entryPoint": "model.py", **named}


def test_different_numbers_of_workers_are_refused() -> None:
    assert faults("minWorkers=1\nmaxWorkers=2") == ("minWorkers and maxWorkers must be the same: got 1 and 2",)


def test_a_model_id_that_is_neither_s3_nor_a_folder_is_refused() -> None:
    assert "option.model_id must be s3://bucket/prefix/ or a folder" in faults("option.model_id=https://x/y")[0]


def test_deepspeed_has_its_own_keys_and_a_process_for_each_degree() -> None:
    options = Options.parse("engine=DeepSpeed\noption.tensor_parallel_degree=4\noption.checkpoint=x.json", {})

    assert (options.engine, options.ranks, options.properties["checkpoint"]) == ("deepspeed", 4, "x.json")
    assert faults("engine=DeepSpeed\noption.device_map=auto") != ()


def test_the_description_is_one_line_without_secrets() -> None:
    line = Options.parse("engine=Python\noption.hf_token=hf_secret\noption.tea=green", {}).describe()

    assert "\n" not in line
    assert "engine=script" in line and "option.tea=green" in line and "option.hf_token=***" in line
    assert "hf_secret" not in line


def test_options_survive_the_way_to_a_worker() -> None:
    options = Options.parse("engine=Python\nmaxWorkers=2\noption.tea=green", {})

    assert Options.from_json(options.to_json()) == options


def test_the_keys_of_an_engine_do_not_hold_those_of_another() -> None:
    assert "option.handler" in known_keys("script")
    assert "option.handler" not in known_keys("native")
    assert "option.tensor_parallel_degree" in known_keys("native")


@given(st.text(max_size=200))
def test_any_text_is_either_options_or_sentences(text: str) -> None:
    try:
        options = Options.parse(text, {})
    except OptionsError as error:
        assert error.faults and all(fault and not fault.endswith(".") for fault in error.faults)
    else:
        assert options.batch_size >= 1
