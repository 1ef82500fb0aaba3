"""The environment variables of LMI, TGI and SageMaker that mean a key of serving.properties. Not the keys: keys.py.

Sources: deepjavalibrary/djl-serving (its documentation of configurations, and of SageMaker's variables since 0.35), the
SageMaker inference toolkit, text-generation-inference's launcher. `OPTION_X` is `option.x`, `SERVING_X` is `x`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

# Those that name a key otherwise than by OPTION_ or SERVING_ and its name in capitals.
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "OPTION_ENGINE": "engine",
        "OPTION_ENTRYPOINT": "option.entryPoint",
        "OPTION_ENTRY_POINT": "option.entryPoint",
        "DJL_ENTRY_POINT": "option.entryPoint",
        "HF_MODEL_ID": "option.model_id",
        "HF_MODEL_QUANTIZE": "option.quantize",
        "HF_MODEL_TRUST_REMOTE_CODE": "option.trust_remote_code",
        "HF_TRUST_REMOTE_CODE": "option.trust_remote_code",
        "HF_REVISION": "option.revision",
        "HF_MODEL_REVISION": "option.revision",
        "HF_TASK": "option.task",
        "CUDA_MEMORY_FRACTION": "option.gpu_memory_utilization",
        "MAX_BATCH_PREFILL_TOKENS": "option.max_rolling_batch_prefill_tokens",
        "TENSOR_PARALLEL_DEGREE": "option.tensor_parallel_degree",
        "SM_NUM_GPUS": "option.tensor_parallel_degree",
        "PIPELINE_PARALLEL_DEGREE": "option.pipeline_parallel_degree",
        "MAX_BATCH_SIZE": "option.max_rolling_batch_size",
        "MAX_TOTAL_TOKENS": "option.max_model_len",
        "DTYPE": "option.dtype",
        "QUANTIZE": "option.quantize",
        "MAX_CONCURRENT_REQUESTS": "job_queue_size",
        "MODEL_LOADING_TIMEOUT": "option.model_loading_timeout",
        "PREDICT_TIMEOUT": "option.predict_timeout",
        "SERVING_MIN_WORKERS": "minWorkers",
        "SERVING_MAX_WORKERS": "maxWorkers",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "option.default_accept",
        "SAGEMAKER_MAX_REQUEST_SIZE": "max_request_size",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "maxWorkers",
        "SAGEMAKER_NUM_MODEL_WORKERS": "maxWorkers",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "option.predict_timeout",
        "SAGEMAKER_STARTUP_TIMEOUT": "option.model_loading_timeout",
        "SAGEMAKER_ENABLE_STATEFUL_SESSIONS": "option.enable_stateful_sessions",
        "SAGEMAKER_SESSIONS_PATH": "option.sessions_path",
        "SAGEMAKER_SESSIONS_EXPIRATION": "option.sessions_expiration",
    }
)

ROOT, ROOT_VARIABLE = "/opt/ml", "HEAVYLIFT_OPT_ML"
"""Where SageMaker puts files, and the variable that names the folder which stands for it outside of a container."""

OF_JAVA = frozenset(
    {
        *("allow_multi_status", "chunked_read_timeout", "cluster_address", "cors_allowed_headers"),
        *("cors_allowed_methods", "cors_allowed_origin", "gpu.required_memory_mb", "gpu.reserved_memory_mb"),
        *("inference_address", "io_ratio", "prometheus"),
        *("load_on_devices", "log_model_metric", "log_request_metric", "management_address", "max_idle_time"),
        *("metrics_aggregation", "model_store", "model_url_pattern", "number_of_netty_threads", "plugin_folder"),
        *("use_native_io", "wait_model_loading"),
    }
)
"""Keys of serving.properties that are about LMI's Java server. They are read, with a warning."""

# Those of LMI's images that have no meaning here: its Java server's, its downloads', its own switches; and TGI's.
MEANINGLESS = frozenset(
    {
        "SERVING_OPTS",
        "SERVING_FEATURES",
        "SERVING_DOWNLOAD_DIR",
        "SERVING_FAIL_FAST",
        "SERVING_WAIT_MODEL_LOADING",
        "SERVING_HEALTH_CHECK_OVERRIDE",
        "SERVING_MODEL_STORE",
        *(f"SERVING_{name.upper().replace('.', '_')}" for name in OF_JAVA),
        *("MAX_BATCH_TOTAL_TOKENS", "MAX_BEST_OF", "MAX_CLIENT_BATCH_SIZE", "MAX_INPUT_LENGTH", "MAX_INPUT_TOKENS"),
        *("MAX_STOP_SEQUENCES", "MAX_TOP_N_TOKENS", "MAX_WAITING_TOKENS", "MESSAGES_API_ENABLED"),
        "WAITING_SERVED_RATIO",
    }
)

# Variables of vLLM's own container (SM_VLLM_FOO_BAR is --foo-bar) that mean a key by another name.
_OF_VLLM = {
    "MODEL": "option.model_id",
    "TENSOR_PARALLEL_SIZE": "option.tensor_parallel_degree",
    "PIPELINE_PARALLEL_SIZE": "option.pipeline_parallel_degree",
    "MAX_NUM_SEQS": "option.max_rolling_batch_size",
    "QUANTIZATION": "option.quantize",
}
_VLLM = "SM_VLLM_"
_IN_WORDS = ("MAX_MODEL_LEN", "MAX_NUM_BATCHED_TOKENS", "KV_CACHE_MEMORY_BYTES")  # vLLM reads 16k and 16K there
_SUFFIXED = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([kmgt])|(\d{1,9})([KMGT])")

_LOADED = re.compile(r"[^:=,]*:[^:=,]*:(?P<engine>[A-Za-z]+)(:[^=,]*)?=[^,]+")  # name:version:engine:devices=url


def merged(written: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The file's keys, then what the environment adds, then what SERVING_* overrides: LMI's precedence. A path below
    SageMaker's /opt/ml is one below the folder that stands for it, where ROOT_VARIABLE names one."""
    values = dict(written)
    for name in sorted(environ, key=_order):
        key = ENVIRONMENT.get(name)
        if name in MEANINGLESS:
            continue
        if name == "SERVING_LOAD_MODELS":
            if (named := _LOADED.fullmatch(environ[name])) is not None:
                values.setdefault("engine", named["engine"])
        elif name == "SAGEMAKER_MAX_PAYLOAD_IN_MB" and environ[name].isdecimal():
            values.setdefault("max_request_size", str(int(environ[name]) * 2**20))
        elif name == "ENABLE_CUDA_GRAPHS":
            values.setdefault("option.enforce_eager", "false" if environ[name].lower() in ("true", "1") else "true")
        elif name.startswith(_VLLM):
            values.setdefault(_of_vllm(name), _said_to_vllm(name, environ[name]))
        elif name.startswith("SERVING_"):
            values[key or name.removeprefix("SERVING_").lower()] = environ[name]
        elif key is not None:
            values.setdefault(key, _unquoted(environ[name]))
        elif name.startswith("OPTION_"):
            values.setdefault(f"option.{name.removeprefix('OPTION_').lower()}", environ[name])
    if any(name.startswith(_VLLM) for name in environ) and not {"engine", "option.entryPoint"} & values.keys():
        values.setdefault("option.rolling_batch", "vllm")  # which names the engine, as in LMI
    root = environ.get(ROOT_VARIABLE, ROOT)
    return {key: root + text[len(ROOT) :] if text.startswith(f"{ROOT}/") else text for key, text in values.items()}


def foreign(environ: Mapping[str, str]) -> dict[str, str]:
    """The keys that only a name of TGI's, SageMaker's or vLLM's asks for, each with that name: they were written for
    another server, and an engine need not know them."""
    own = {f"option.{name.removeprefix('OPTION_').lower()}" for name in environ if name.startswith("OPTION_")}
    named = {ENVIRONMENT[name]: name for name in environ if name in ENVIRONMENT and not name.startswith("OPTION_")}
    named |= {_of_vllm(name): name for name in environ if name.startswith(_VLLM)}
    if "ENABLE_CUDA_GRAPHS" in environ:
        named["option.enforce_eager"] = "ENABLE_CUDA_GRAPHS"
    return {key: name for key, name in named.items() if key not in own}


def _of_vllm(name: str) -> str:
    rest = name.removeprefix(_VLLM)
    return _OF_VLLM.get(rest, f"option.{rest.lower()}")


def _said_to_vllm(name: str, text: str) -> str:
    """As its container's entry point and its command line read it: an empty variable is a flag alone, 16k is 16 000 and
    16K is 16 · 1024."""
    if name.removeprefix(_VLLM) in _IN_WORDS and (number := _SUFFIXED.fullmatch(text)) is not None:
        decimal, thousands, binary, kibis = number.groups()
        if decimal is not None:
            return str(int(Decimal(decimal) * 1000 ** ("kmgt".index(thousands) + 1)))
        return str(int(binary) * 1024 ** ("KMGT".index(kibis) + 1))
    return text or "true"


def _unquoted(text: str) -> str:
    """Notebooks write a variable with json.dumps, which puts a text in quotes."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _order(name: str) -> tuple[bool, bool, str]:
    """LMI's own names before those of TGI and SageMaker."""
    return (not name.startswith("OPTION_"), name.startswith(("SM_", "SAGEMAKER_")), name)
