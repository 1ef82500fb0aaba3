"""The keys that this version knows in serving.properties, and their types. Not their defaults: they are in options.py.

Names and meanings are LMI's (deepjavalibrary/djl-serving v0.23, its documentation of configurations).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

Value = str | int | bool


class BadValue(ValueError):
    """A value outside of what its key allows; the message is the allowed values."""


@dataclass(frozen=True)
class Key:
    """One key: the field of Options that it fills, how its text is read, the engines that know it."""

    name: str
    field: str
    read: Callable[[str], Value]
    about: str
    engines: tuple[str, ...] = ("native", "script")


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from low to high."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
            raise BadValue(f"a whole number from {low} to {high}")
        return int(text)

    return read


def one_of(*allowed: str) -> Callable[[str], str]:
    """One of some words."""

    def read(text: str) -> str:
        if text not in allowed:
            raise BadValue(" or ".join(repr(word) for word in allowed))
        return text

    return read


def word(text: str) -> str:
    """Any text but none."""
    if not text:
        raise BadValue("a text that is not empty")
    return text


def flag(text: str) -> bool:
    """true or false."""
    return one_of("true", "false")(text) == "true"


_ROWS = (
    Key("engine", "engine", word, "native, or Python for a script"),
    Key("batch_size", "batch_size", whole(1, 1024), "rows that one call of the engine may compute together"),
    Key("max_batch_delay", "max_batch_delay", whole(0, 60_000), "milliseconds that a batch may wait to fill"),
    Key("job_queue_size", "job_queue_size", whole(1, 100_000), "requests that may wait; more get 503"),
    Key("minWorkers", "workers", whole(1, 64), "copies of the model; the same as maxWorkers"),
    Key("maxWorkers", "workers", whole(1, 64), "copies of the model"),
    Key("retry_threshold", "retry_threshold", whole(0, 100), "restarts of a dead copy within ten minutes"),
    Key("option.model_id", "model_id", word, "where the weights are: s3://bucket/prefix/ or a folder"),
    Key("option.entryPoint", "entry_point", word, "the script's file in the folder", ("script",)),
    Key("option.handler", "handler", word, "the script's function", ("script",)),
    Key("option.install_requirements", "install_requirements", flag, "let pip bring requirements.txt", ("script",)),
    Key("option.dtype", "dtype", one_of("auto", "fp32", "fp16", "bf16"), "the type of the weights"),
    Key("option.tensor_parallel_degree", "tensor_parallel_degree", whole(1, 64), "ranks that share one copy"),
    Key("option.pipeline_parallel_degree", "pipeline_parallel_degree", whole(1, 1), "1 in this version"),
    Key("option.quantize", "quantize", one_of("none"), "none in this version"),
    Key("option.max_new_tokens", "max_new_tokens", whole(1, 1024), "tokens to generate where a request gives none"),
    Key("option.model_loading_timeout", "model_loading_timeout", whole(1, 36_000), "seconds until loading has failed"),
    Key("option.predict_timeout", "predict_timeout", whole(1, 3600), "seconds until a request has failed"),
)
KEYS: Mapping[str, Key] = MappingProxyType({row.name: row for row in _ROWS})

# Environment variables of LMI that name a key otherwise than by OPTION_ or SERVING_ and its name in capitals.
ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "OPTION_ENGINE": "engine",
        "OPTION_ENTRYPOINT": "option.entryPoint",
        "OPTION_ENTRY_POINT": "option.entryPoint",
        "HF_MODEL_ID": "option.model_id",
        "TENSOR_PARALLEL_DEGREE": "option.tensor_parallel_degree",
        "PIPELINE_PARALLEL_DEGREE": "option.pipeline_parallel_degree",
        "MODEL_LOADING_TIMEOUT": "option.model_loading_timeout",
        "PREDICT_TIMEOUT": "option.predict_timeout",
        "SERVING_MIN_WORKERS": "minWorkers",
        "SERVING_MAX_WORKERS": "maxWorkers",
    }
)

# Keys of LMI whose meaning has another name here.
RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "option.s3url": "option.model_id",
        "option.data_type": "option.dtype",
        "option.quantization": "option.quantize",
        "max_dynamic_batch_size": "batch_size",
    }
)


def known_keys(engine: str) -> tuple[str, ...]:
    """The keys that an engine reads, in the table's order; a script is also handed every other `option.*`."""
    return tuple(row.name for row in _ROWS if engine in row.engines)
