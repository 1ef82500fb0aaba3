"""serving.properties and the environment become Options, or sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heavylift_runtime import entry
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


@pytest.mark.parametrize(
    "line",
    ["engine=Python", "engine = Python", "engine: Python", "engine : Python", "engine Python", "engine\t:Python"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_key_ends_where_java_says(line: str, end: str) -> None:
    options = Options.parse(f"{line}{end}option.say a: b=c{end}option.sign=\u2028=:{end}", {})

    assert (options.engine, dict(options.properties)) == ("script", {"say": "a: b=c", "sign": "\u2028=:"})


def test_a_line_without_a_value_or_a_key_is_refused() -> None:
    assert [fault.partition(" is not ")[0] for fault in faults("engine\n=native\n: native\n")] == [
        "serving.properties: line 1",
        "serving.properties: line 2",
        "serving.properties: line 3",
    ]


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "serving.properties").write_bytes(b"\xef\xbb\xbfengine=DeepSpeed\n")

    assert Options.load(tmp_path, {}).engine == "deepspeed"


def test_variables_of_the_model_are_its_ranks_and_no_property_and_no_line_shows_their_values() -> None:
    options = Options.parse("engine=Python\noption.env=HF_TOKEN=hf_secret, A = 1=2,", {})

    assert options.environment == {"HF_TOKEN": "hf_secret", "A": "1=2"}
    assert "env" not in options.properties
    assert "option.env=HF_TOKEN,A" in options.describe() and "hf_secret" not in options.describe()
    assert Options.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("A", "option.env must be NAME=value pairs with commas between them, and pair 1 is none"),
        ("A=1,hf_secret", "option.env must be NAME=value pairs with commas between them, and pair 2 is none"),
        ("A-B=hf_secret", "option.env must be NAME=value pairs with commas between them, and pair 1 is none"),
        ("RANK=1", "option.env must be variables of the model's, and RANK is not one of these: leave it out"),
        *(
            (f"{name}=1", f"and {name} is not one of these: leave it out")
            for name in ("HEAVYLIFT_OPT_ML", "PYTHONPATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "MASTER_PORT")
        ),
    ],
)
def test_variables_that_are_none_or_the_runtimes_own_are_refused_without_their_values(text: str, sentence: str) -> None:
    (fault,) = faults(f"engine=native\noption.env={text}")

    assert fault.endswith(sentence) and "hf_secret" not in fault


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


@pytest.mark.parametrize("engine", ["Python", "MPI"])
@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("", "accelerate"),
        ("option.rolling_batch=auto", "accelerate"),
        ("option.rolling_batch=scheduler", "accelerate"),
        ("option.rolling_batch=disable\noption.task=text-generation", "accelerate"),
        ("option.rolling_batch=vllm", "vllm"),
        ("option.task=feature-extraction", "script"),
    ],
)
def test_a_model_id_and_no_model_py_are_lmi_s_handler_that_needs_no_code(
    tmp_path: Path, engine: str, said: str, name: str
) -> None:
    (tmp_path / "serving.properties").write_text(f"engine={engine}\noption.model_id=org/model\n{said}\n")

    options = Options.load(tmp_path, {})

    assert (options.engine, options.model_id) == (name, "org/model")
    assert options.entry_point == (None if name == "vllm" else "djl_python.huggingface")


def test_a_checkpoint_in_the_folder_itself_needs_no_code_and_no_model_id(tmp_path: Path) -> None:
    (tmp_path / "serving.properties").write_text("engine=Python\n")

    assert (Options.load(tmp_path, {}).engine, Options.load(tmp_path, {}).entry_point) == ("script", None)

    (tmp_path / "config.json").write_text("{}")

    assert (Options.load(tmp_path, {}).engine, Options.load(tmp_path, {}).model_id) == ("accelerate", None)
    assert Options.load(tmp_path, {"OPTION_ENGINE": "native"}).engine == "accelerate"
    (tmp_path / "model.py").write_text("")
    assert Options.load(tmp_path, {}).entry_point == "model.py"


def test_the_environment_alone_names_a_model_and_a_task_that_no_text_answers(tmp_path: Path) -> None:
    numbers = Options.load(tmp_path, {"HF_MODEL_ID": "org/model", "HF_TASK": "feature-extraction"})
    text = Options.load(tmp_path, {"HF_MODEL_ID": "org/model", "HF_TASK": "text-generation"})
    lmi = Options.load(tmp_path, {"HF_MODEL_ID": "org/model", "SERVING_LOAD_MODELS": "test::MPI=/opt/ml/model"})

    assert (numbers.engine, numbers.entry_point) == ("script", "djl_python.huggingface")
    assert (text.engine, lmi.engine) == ("native", "accelerate")


def test_on_neuroncores_the_handler_that_needs_no_code_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "neuron", lambda: True)

    options = Options.load(tmp_path, {"OPTION_ENGINE": "Python", "OPTION_MODEL_ID": "org/model"})

    assert options.engine == "neuronx"


@pytest.mark.parametrize("name", ["OPTION_ENTRYPOINT", "OPTION_ENTRY_POINT", "DJL_ENTRY_POINT"])
def test_an_entry_point_of_the_environment_goes_before_the_model_py(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.py").write_text("")

    assert Options.load(tmp_path, {name: "serve.py"}).entry_point == "serve.py"


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


def test_of_two_numbers_of_workers_the_larger_one_is_loaded_from_the_start_with_a_warning() -> None:
    options = Options.parse("minWorkers=1\nmaxWorkers=4", {})

    assert options.workers == 4
    assert options.warnings == ("minWorkers=1 is not read: all maxWorkers=4 copies are loaded from the start",)
    assert faults("minWorkers=3\nmaxWorkers=2") == ("minWorkers must be at most maxWorkers: got 3 and 2",)
    assert "maxWorkers must be a whole number from 1 to 64" in faults(f"minWorkers=1\nmaxWorkers={'9' * 5000}")[0]


@pytest.mark.parametrize(("gpus", "workers", "unread"), [("0", 2, "cpu"), ("", 3, "gpu")])
def test_workers_for_one_kind_of_device_go_before_those_for_any_on_a_machine_that_has_it(
    gpus: str, workers: int, unread: str
) -> None:
    text = "minWorkers=1\nmaxWorkers=1\ngpu.minWorkers=2\ngpu.maxWorkers=2\ncpu.minWorkers=3\ncpu.maxWorkers=3\n"

    options = Options.parse(text, {"CUDA_VISIBLE_DEVICES": gpus})

    assert options.workers == workers
    assert [warning.split(" ")[0] for warning in options.warnings] == [f"{unread}.minWorkers", f"{unread}.maxWorkers"]


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
