"""The keys that this version knows in serving.properties, and their types. Not their defaults: options.py.

Names and meanings are LMI's (deepjavalibrary/djl-serving v0.23, its documentation of configurations).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.readings import (
    Value,
    degree,
    dtype,
    flag,
    lowered,
    one_of,
    streaming,
    variables,
    whole,
    word,
)


@dataclass(frozen=True)
class Key:
    """One key: the field of Options that it fills ("": none, its text is enough), its reading, who knows it."""

    name: str
    field: str
    read: Callable[[str], Value]
    about: str
    engines: tuple[str, ...] = ("*",)


_EVERY = ("*",)
_SCRIPT = ("script",)
_ROLLS = ("auto", "disable", "scheduler", "lmi-dist", "vllm", "trtllm", "tnx", "deepspeed")
_FORMATTERS = ("json", "jsonlines", "sse")
_QUANTIZE = "none, int8, int4, fp8, …: what the engine has"

_ROWS = (
    Key("engine", "engine", word, "native, Python, or another engine's name"),
    Key("batch_size", "batch_size", whole(1, 1024), "requests that a script gets together; rows that an engine runs"),
    Key("max_batch_delay", "max_batch_delay", whole(0, 60_000), "milliseconds that a batch may wait to fill"),
    Key("job_queue_size", "job_queue_size", whole(1, 100_000), "requests that may wait; more are refused"),
    Key("throttle_http_code", "throttle_http_code", whole(400, 599), "the status where the queue is full: 503 or 429"),
    Key("max_request_size", "max_request_size", whole(1, 1 << 30), "bytes of a request's body"),
    Key("minWorkers", "workers", whole(1, 64), "copies of the model; maxWorkers goes before it"),
    Key("maxWorkers", "workers", whole(1, 64), "copies of the model"),
    Key("retry_threshold", "retry_threshold", whole(0, 100), "restarts of a dead copy within ten minutes"),
    Key("required_memory_mb", "required_memory_mb", whole(0, 10_000_000), "memory that must be free to load it"),
    Key("reserved_memory_mb", "reserved_memory_mb", whole(0, 10_000_000), "memory that must stay free beside it"),
    Key("option.model_id", "model_id", word, "where the weights are: s3://bucket/prefix/ or a folder"),
    Key("option.entryPoint", "entry_point", word, "the script's file in the folder, or an engine of djl_python"),
    Key("option.handler", "handler", word, "the script's function", _SCRIPT),
    Key("option.install_requirements", "install_requirements", flag, "let pip bring requirements.txt", _SCRIPT),
    Key("option.mpi_mode", "mpi_mode", flag, "the script runs in tensor_parallel_degree processes", _SCRIPT),
    Key("option.pythonExecutable", "", word, "the Python that runs the ranks"),
    Key("option.env", "environment", variables, "variables of the ranks: NAME=value,NAME=value"),
    Key("option.dtype", "dtype", dtype, "the type of the weights"),
    Key("option.tensor_parallel_degree", "tensor_parallel_degree", degree, "ranks that share one copy"),
    Key("option.pipeline_parallel_degree", "pipeline_parallel_degree", whole(1, 64), "stages that share one copy"),
    Key("option.quantize", "quantize", lowered, _QUANTIZE),
    Key("option.rolling_batch", "rolling_batch", one_of(*_ROLLS), "disable: as many rows as batch_size at once"),
    Key("option.max_rolling_batch_size", "max_rolling_batch_size", whole(1, 1024), "rows that run at once"),
    Key("option.max_model_len", "max_model_len", whole(1, 1 << 24), "tokens of a prompt and its answer together"),
    Key("option.batch_invariant", "batch_invariant", flag, "an answer does not depend on what runs beside it"),
    Key("option.max_new_tokens", "max_new_tokens", whole(1, 4096), "tokens to generate where a request gives none"),
    Key("option.output_formatter", "output_formatter", one_of(*_FORMATTERS), "how a stream's tokens are framed"),
    Key("option.tgi_compat", "tgi_compat", flag, "replies have the shape of text-generation-inference"),
    Key("option.lmi_compat", "lmi_compat", one_of("none", "0.23", "latest"), "whose replies, defaults and errors"),
    Key("option.chat_template", "", word, "Jinja, or a file of the folder with it"),
    Key("option.prompt_template", "", word, "Jinja, or a file of the folder with it"),
    Key("option.prompt_examples", "", word, "a file of JSON lines, for the prompt template"),
    Key("option.enable_stateful_sessions", "sessions", flag, "NEW_SESSION and CLOSE open and close a session"),
    Key("option.sessions_path", "sessions_path", word, "the folder of the sessions"),
    Key("option.sessions_expiration", "sessions_expiration", whole(1, 1_000_000), "seconds that a session lives"),
    Key("option.trust_remote_code", "", flag, "code of the checkpoint may run, where an engine runs any"),
    Key("option.parallel_loading", "", flag, "copies are loaded at the same time in any case"),
    Key(
        "option.default_accept",
        "",
        word,
        "what a script is told that the client accepts where it does not say",
        _SCRIPT,
    ),
    Key("option.enable_streaming", "", streaming, "a client's `stream` decides instead"),
    Key("option.model_loading_timeout", "model_loading_timeout", whole(1, 36_000), "seconds until loading has failed"),
    Key("option.predict_timeout", "predict_timeout", whole(1, 3600), "seconds until a request has failed"),
)
KEYS: Mapping[str, Key] = MappingProxyType({row.name: row for row in _ROWS})

# LMI's older or other spellings; they are read, with a warning.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "option.s3url": "option.model_id",
        "option.data_type": "option.dtype",
        "option.quantization": "option.quantize",
        "option.model_dir": "option.model_id",
        "max_dynamic_batch_size": "batch_size",
        "option.batch_size": "batch_size",
        "min_workers": "minWorkers",
        "max_workers": "maxWorkers",
    }
)


def known_keys(engine: str) -> tuple[str, ...]:
    """The keys that an engine reads, in the table's order; an engine may be handed every other `option.*`, too."""
    own = tuple(f"option.{key}" for key in ENGINES[engine].keys)
    rows = tuple(row.name for row in _ROWS if row.engines == _EVERY or engine in row.engines)
    return tuple(dict.fromkeys(rows + own))
