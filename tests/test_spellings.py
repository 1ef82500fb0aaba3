"""Names of LMI's older versions, of its Java server, of TGI, SageMaker and vLLM: what options they mean here."""

from __future__ import annotations

import pytest

from heavylift_runtime.options import Options
from tests.test_options import faults


def test_an_old_key_of_lmi_is_read_with_a_warning() -> None:
    options = Options.parse("option.s3url=s3://bucket/x/\noption.data_type=bf16", {})

    assert (options.model_id, options.dtype) == ("s3://bucket/x/", "bf16")
    assert options.warnings == (
        "option.s3url is an old name: write option.model_id",
        "option.data_type is an old name: write option.dtype",
    )


def test_an_old_key_and_its_new_one_that_disagree_are_refused() -> None:
    (fault,) = faults("option.s3url=s3://bucket/x/\noption.model_id=s3://bucket/y/")

    assert fault == "option.model_id and its old name must be the same: got 's3://bucket/x/' and 's3://bucket/y/'"


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("float32", "fp32"),
        ("float", "fp32"),
        ("float16", "fp16"),
        ("half", "fp16"),
        ("bfloat16", "bf16"),
        ("BF16", "bf16"),
        ("auto", "auto"),
    ],
)
def test_a_type_may_have_torch_s_and_vllm_s_name(text: str, dtype: str) -> None:
    assert Options.parse(f"engine=native\noption.dtype={text}", {}).dtype == dtype
    assert Options.parse("", {"OPTION_DTYPE": text}).dtype == dtype
    assert Options.parse("", {"SM_VLLM_DTYPE": text}).dtype == dtype
    assert Options.parse("", {"DTYPE": text}).dtype == dtype


@pytest.mark.parametrize("text", ["True", "False", "true", "huggingface"])
def test_streaming_may_be_spelled_as_python_spells_it(text: str) -> None:
    assert Options.parse("engine=native", {"OPTION_ENABLE_STREAMING": text}).engine == "native"
    assert "option.enable_streaming must be" in faults("option.enable_streaming=yes")[0]


def test_a_quantization_may_be_in_any_letters_and_vllm_s_are_for_vllm_to_judge() -> None:
    vllm = Options.parse("", {"SM_VLLM_QUANTIZATION": "compressed-tensors"})

    assert Options.parse("engine=native\noption.quantize=AWQ", {}).quantize == "awq"
    assert (vllm.engine, vllm.quantize) == ("vllm", "compressed-tensors")
    assert (
        "option.quantize=compressed-tensors is not of engine native" in faults("option.quantize=compressed-tensors")[0]
    )


def test_deepspeed_s_own_rolling_batch_names_it() -> None:
    text = (
        "engine=MPI\noption.tensor_parallel_degree=2\noption.rolling_batch=deepspeed\noption.max_rolling_batch_size=64"
    )

    starter = Options.parse(f"{text}\noption.entryPoint=djl_python.deepspeed", {})

    assert (starter.engine, starter.capacity, starter.ranks) == ("deepspeed", 64, 2)
    assert Options.parse(text, {}).engine == "deepspeed"
    assert "is of engine deepspeed, not of native" in faults("engine=native\noption.rolling_batch=deepspeed")[0]


def test_a_users_script_may_call_its_rolling_batch_as_it_likes() -> None:
    script = Options.parse("engine=Python\noption.entryPoint=model.py\noption.rolling_batch=true", {})

    assert script.properties["rolling_batch"] == "true"
    assert "option.rolling_batch must be" in faults("engine=native\noption.rolling_batch=true")[0]


def test_neuron_s_own_keys_are_read() -> None:
    text = "option.entryPoint=djl_python.transformers_neuronx\noption.rolling_batch=auto\n"

    strategy = Options.parse(f"{text}option.rolling_batch_strategy=continuous_batching", {})
    batch = Options.parse(f"{text}option.batch_size=4", {})

    assert (strategy.engine, strategy.warnings) == ("neuronx", ())
    assert (batch.capacity, batch.warnings) == (4, ("option.batch_size is an old name: write batch_size",))


def test_a_batch_size_between_a_users_script_and_its_libraries_is_none_of_the_server() -> None:
    script = Options.parse("engine=Python\noption.entryPoint=model.py\noption.batch_size=4", {})

    assert (script.batch_size, script.properties["batch_size"], script.warnings) == (1, "4", ())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("s3url", "s3://bucket/model/"),
        ("data_type", "fp16"),
        ("data_type", "int8"),
        ("dtype", "float16"),
        ("load_in_8bit", "True"),
        ("quantize", "bitsandbytes8"),
    ],
)
def test_a_users_script_finds_what_was_written_under_its_own_name(key: str, value: str) -> None:
    options = Options.parse(f"engine=Python\noption.entryPoint=model.py\noption.{key}={value}\n", {})

    assert options.properties[key] == value
    today = {"s3url": "model_id", "data_type": "dtype"}.get(key, key)
    assert options.properties[today] == value


def test_a_script_of_the_runtimes_own_refuses_what_it_does_not_have() -> None:
    text = "engine=Python\noption.entryPoint=djl_python.huggingface\noption.task=feature-extraction\n"

    assert "option.quantize=int8 is not of engine script" in faults(f"{text}option.load_in_8bit=true")[0]
    assert "option.dtype must be" in faults(f"{text}option.dtype=int8")[0]


@pytest.mark.parametrize(
    ("text", "engine", "mpi"),
    [
        ("engine=MPI\noption.entryPoint=model.py", "script", True),
        ("engine=DeepSpeed\noption.entryPoint=model.py", "script", True),
        ("engine=Python\noption.entryPoint=model.py\noption.mpi_mode=true", "script", True),
        ("engine=Python\noption.entryPoint=model.py", "script", False),
    ],
)
def test_a_script_runs_on_every_rank_where_lmi_would_start_it_with_mpi(text: str, engine: str, mpi: bool) -> None:
    options = Options.parse(f"{text}\noption.tensor_parallel_degree=2", {})

    assert (options.engine, options.mpi_mode, options.ranks) == (engine, mpi, 2 if mpi else 1)


@pytest.mark.parametrize("said", ["Python", "MPI", "DeepSpeed", "FasterTransformer"])
@pytest.mark.parametrize(
    ("module", "engine"),
    [
        ("fastertransformer", "fastertransformer"),
        ("deepspeed", "deepspeed"),
        ("huggingface", "accelerate"),
        ("transformers_neuronx", "neuronx"),
        ("transformers-neuronx", "neuronx"),
        ("vllm", "vllm"),
    ],
)
def test_lmis_own_entry_points_need_no_code_and_name_the_engine(said: str, module: str, engine: str) -> None:
    assert Options.parse(f"engine={said}\noption.entryPoint=djl_python.{module}\n", {}).engine == engine


def test_variables_of_tgi_and_sagemaker_mean_keys() -> None:
    environ = {
        "SM_NUM_GPUS": "2",
        "MAX_BATCH_SIZE": "16",
        "MAX_CONCURRENT_REQUESTS": "50",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "120",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "20",
        "SERVING_LOAD_MODELS": "test::native=/opt/ml/model",
        "SERVING_OPTS": "-Xmx1g",
    }

    options = Options.parse("", environ)

    assert (options.engine, options.tensor_parallel_degree, options.capacity) == ("native", 2, 16)
    assert (options.job_queue_size, options.predict_timeout, options.max_request_size) == (50, 120, 20 * 2**20)
    assert options.warnings == ("SERVING_OPTS means nothing here: it is not read",)


def test_variables_of_vllm_s_own_container_mean_keys_and_name_the_engine() -> None:
    environ = {"SM_VLLM_MODEL": "s3://b/m/", "SM_VLLM_MAX_NUM_SEQS": "8", "SM_VLLM_ENABLE_PREFIX_CACHING": "true"}

    options = Options.parse("", environ | {"SM_VLLM_TENSOR_PARALLEL_SIZE": "2"})

    assert (options.engine, options.model_id, options.capacity) == ("vllm", "s3://b/m/", 8)
    assert (options.tensor_parallel_degree, options.properties["enable_prefix_caching"]) == (2, "true")
    assert Options.parse("engine=native", {"SM_VLLM_MAX_NUM_SEQS": "8"}).engine == "native"


@pytest.mark.parametrize(
    ("text", "tokens"), [("4096", 4096), ("16k", 16_000), ("16K", 16_384), ("25.6k", 25_600), ("1M", 2**20)]
)
def test_a_length_may_be_in_thousands_as_on_vllm_s_command_line(text: str, tokens: int) -> None:
    options = Options.parse("", {"SM_VLLM_MAX_MODEL_LEN": text, "SM_VLLM_MAX_NUM_BATCHED_TOKENS": text})

    assert options.max_model_len == int(options.properties["max_num_batched_tokens"]) == tokens
    assert Options.parse("", {"SM_VLLM_SERVED_MODEL_NAME": text}).properties["served_model_name"] == text


@pytest.mark.parametrize("text", ["16q", "1.5K", "k", "999999999t"])
def test_a_length_that_vllm_would_not_read_is_refused(text: str) -> None:
    assert "option.max_model_len must be a whole number" in faults("", {"SM_VLLM_MAX_MODEL_LEN": text})[0]


def test_an_empty_variable_of_vllm_s_container_is_a_flag() -> None:
    options = Options.parse("", {"SM_VLLM_TRUST_REMOTE_CODE": "", "SM_VLLM_ENABLE_AUTO_TOOL_CHOICE": ""})

    assert options.properties["trust_remote_code"] == options.properties["enable_auto_tool_choice"] == "true"


def test_a_variable_that_a_notebook_wrote_as_a_json_text_is_that_text() -> None:
    options = Options.parse("", {"SM_NUM_GPUS": '"4"', "HF_MODEL_ID": '"org/model"'})

    assert (options.tensor_parallel_degree, options.model_id) == (4, "org/model")


def test_lengths_and_limits_of_tgi_are_read_or_named_as_without_effect() -> None:
    unread = ("MAX_INPUT_LENGTH", "MAX_BATCH_TOTAL_TOKENS", "MAX_STOP_SEQUENCES", "MESSAGES_API_ENABLED")

    options = Options.parse("", {"MAX_TOTAL_TOKENS": "2048", "QUANTIZE": "awq", **dict.fromkeys(unread, "4")})

    assert (options.max_model_len, options.quantize) == (2048, "awq")
    assert set(options.warnings) == {f"{name} means nothing here: it is not read" for name in unread}


@pytest.mark.parametrize(
    ("environ", "key", "value"),
    [
        ({"HF_REVISION": "main"}, "revision", "main"),
        ({"HF_MODEL_REVISION": "main"}, "revision", "main"),
        ({"HF_TASK": "text-generation"}, "task", "text-generation"),
        ({"HF_MODEL_TRUST_REMOTE_CODE": "true"}, "trust_remote_code", "true"),
        ({"CUDA_MEMORY_FRACTION": "0.8"}, "gpu_memory_utilization", "0.8"),
        ({"MAX_BATCH_PREFILL_TOKENS": "4096"}, "max_rolling_batch_prefill_tokens", "4096"),
        ({"ENABLE_CUDA_GRAPHS": "true"}, "enforce_eager", "false"),
        ({"ENABLE_CUDA_GRAPHS": "false"}, "enforce_eager", "true"),
    ],
)
def test_a_variable_of_another_server_reaches_the_engine_that_knows_it_and_no_other(
    environ: dict[str, str], key: str, value: str
) -> None:
    vllm = Options.parse("engine=Python\noption.entryPoint=djl_python.vllm", environ)
    native = Options.parse("engine=native", environ)

    assert vllm.properties[key] == value and vllm.warnings == ()
    assert key in native.properties or next(iter(environ)) in native.warnings[0]


def test_keys_of_lmi_s_java_server_are_read_with_a_warning() -> None:
    options = Options.parse("load_on_devices=0;1\nmax_idle_time=60", {"SERVING_WAIT_MODEL_LOADING": "true"})

    assert sorted(warning.split(" ")[0] for warning in options.warnings) == [
        "SERVING_WAIT_MODEL_LOADING",
        "load_on_devices",
        "max_idle_time",
    ]


def test_what_lmi_has_and_here_means_nothing_is_read_with_a_warning() -> None:
    text = "gpu.required_memory_mb=1\ngpu.reserved_memory_mb=1\nrequired_memory_mb=1\nreserved_memory_mb=2\n"
    environ = {"SERVING_PROMETHEUS": "true", "SERVING_GPU_RESERVED_MEMORY_MB": "1"}

    options = Options.parse(f"engine=native\n{text}option.enable_venv=true", environ)

    assert (options.required_memory_mb, options.reserved_memory_mb) == (1, 2)
    assert sorted(warning.replace(",", "").split(" ")[0] for warning in options.warnings) == [
        "SERVING_GPU_RESERVED_MEMORY_MB",
        "SERVING_PROMETHEUS",
        "gpu.required_memory_mb",
        "gpu.reserved_memory_mb",
        "option.enable_venv",
    ]


def test_awss_samples_may_write_true_in_any_letters_and_load_in_8bit() -> None:
    options = Options.parse("engine=native\noption.load_in_8bit=True\noption.trust_remote_code=True", {})

    assert options.quantize == "int8"
    assert options.warnings == ("option.load_in_8bit is an old name: write option.quantize=int8",)
    assert Options.parse("option.load_in_8bit=false", {}).quantize == "none"


def test_the_copies_are_as_many_as_sagemakers_variable_says() -> None:
    assert Options.parse("", {"SAGEMAKER_NUM_MODEL_WORKERS": "2"}).workers == 2


def test_lmi_s_own_variable_wins_over_sagemaker_s() -> None:
    assert Options.parse("", {"SM_NUM_GPUS": "4", "OPTION_TENSOR_PARALLEL_DEGREE": "2"}).tensor_parallel_degree == 2
