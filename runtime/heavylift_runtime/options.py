"""serving.properties and the environment as one validated value. No torch, no AWS: the core validates with it, too.

Not a place for defaults of a deployment: the plan decides those and writes them into the file.
Precedence is LMI's: the file wins over OPTION_* and its relatives, SERVING_* overrides the file's server keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from heavylift_runtime.engines.registry import ENGINES, engine_of
from heavylift_runtime.errors import OptionsError
from heavylift_runtime.keys import ENVIRONMENT, KEYS, RENAMED, BadValue, Value, known_keys
from heavylift_runtime.properties import read_properties

PROPERTIES = "serving.properties"
__all__ = ["PROPERTIES", "Options", "known_keys"]
_SECRET = ("token", "secret", "password", "credential", "api_key", "access_key")


@dataclass(frozen=True)
class Options:
    """What the container believes. Timeouts in seconds, `max_batch_delay` in milliseconds."""

    engine: str = "native"  # the registry's name, not the spelling of the file
    entry_point: str | None = None
    handler: str = "handle"
    install_requirements: bool = False
    model_id: str | None = None  # None: the weights are in the folder itself
    dtype: str = "auto"
    tensor_parallel_degree: int = 1
    pipeline_parallel_degree: int = 1
    quantize: str = "none"
    max_new_tokens: int = 64
    workers: int = 1
    batch_size: int = 1
    max_batch_delay: int = 100
    job_queue_size: int = 1000
    retry_threshold: int = 3
    model_loading_timeout: int = 3600
    predict_timeout: int = 60
    mpi_mode: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)  # every `option.*` as written, without the prefix

    @classmethod
    def parse(cls, given: str | Mapping[str, str], environ: Mapping[str, str]) -> Options:
        """The options of a file (its text, or its keys and values) and an environment; raises OptionsError."""
        written = read_properties(given) if isinstance(given, str) else dict(given)
        values = _merge(written, environ)
        faults: list[str] = []
        try:
            engine = _engine(values)
        except OptionsError as error:
            faults.extend(error.faults)
            engine = "script" if values.get("engine", "").lower() == "python" else "native"
        found = _read(values, engine, faults)
        options: dict[str, Any] = {name: value for name, (_, value) in found.items()} | {"engine": engine}
        properties = {key.removeprefix("option."): text for key, text in values.items() if key.startswith("option.")}
        parsed = cls(**options, properties=properties)
        faults.extend(_contradictions(parsed))
        if faults:
            raise OptionsError(faults)
        return parsed

    @classmethod
    def load(cls, folder: Path, environ: Mapping[str, str]) -> Options:
        """The options of a model folder; without an `engine`, a model.py in the folder means a script, as in LMI."""
        path = folder / PROPERTIES
        try:
            written = read_properties(path.read_text("utf-8")) if path.is_file() else {}
        except UnicodeDecodeError as error:
            raise OptionsError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
        silent = "engine" not in written and "OPTION_ENGINE" not in environ
        if silent and (folder / "model.py").is_file():
            written = {"engine": "Python"} | written
        return cls.parse(written, environ)

    @property
    def ranks(self) -> int:
        """Processes of one copy: a script without mpi_mode is one process, whatever the degree that it is told."""
        return self.tensor_parallel_degree if self.engine != "script" or self.mpi_mode else 1

    def to_json(self) -> dict[str, Any]:
        """As JSON, for a worker process."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {"properties": dict(self.properties)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Options:
        """The inverse of to_json."""
        return cls(**document)

    def describe(self) -> str:
        """The effective configuration in one line; the values of secrets are left out."""
        shown = [f"{each.name}={getattr(self, each.name)}" for each in fields(self) if each.name != "properties"]
        own = [key for key in self.properties if f"option.{key}" not in KEYS]
        shown += [f"option.{key}={'***' if _is_secret(key) else self.properties[key]}" for key in own]
        return " ".join(shown)


def _merge(written: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The file's keys, then what the environment adds, then what SERVING_* overrides."""
    values = dict(written)
    for name in sorted(environ, key=lambda name: (not name.startswith("OPTION_"), name)):  # before HF_MODEL_ID
        key = ENVIRONMENT.get(name)
        if name.startswith("SERVING_"):
            values[key or name.removeprefix("SERVING_").lower()] = environ[name]
        elif key is not None:
            values.setdefault(key, environ[name])
        elif name.startswith("OPTION_"):
            values.setdefault(f"option.{name.removeprefix('OPTION_').lower()}", environ[name])
    return values


def _engine(values: Mapping[str, str]) -> str:
    entry_point = values.get("option.entryPoint")
    spelling = values.get("engine", "native" if entry_point is None else "Python")
    return engine_of(spelling, entry_point).name


def _read(values: Mapping[str, str], engine: str, faults: list[str]) -> dict[str, tuple[str, Value]]:
    """The fields of Options that the values fill, each with the key that filled it."""
    known = known_keys(engine)
    found: dict[str, tuple[str, Value]] = {}
    for name, text in values.items():
        if name not in known:
            if not (engine == "script" and name.startswith("option.")):
                faults.append(_unknown(name, engine))
            continue
        key = KEYS[name]
        try:
            value = key.read(text)
        except BadValue as error:
            faults.append(f"{name} must be {error}: got {text!r}")
            continue
        other = found.setdefault(key.field, (name, value))
        if other[1] != value:
            faults.append(f"{other[0]} and {name} must be the same: got {other[1]} and {value}")
    return found


def _unknown(name: str, engine: str) -> str:
    renamed = RENAMED.get(name)
    if renamed is not None:
        return f"unknown key {name!r}: it is called {renamed!r} here"
    if name in KEYS:
        return f"{name!r} is a key of engine {' and '.join(KEYS[name].engines)}, not of {engine}: remove it"
    near = get_close_matches(name, known_keys(engine), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known_keys(engine))}"
    return f"unknown key {name!r} for engine {engine}: {hint}"


def _contradictions(options: Options) -> list[str]:
    faults = []
    row = ENGINES[options.engine]
    if options.dtype != "auto" and options.dtype not in row.dtypes:
        faults.append(f"option.dtype={options.dtype} is not a type of engine {row.name}: use {', '.join(row.dtypes)}")
    if options.engine == "script" and options.batch_size != 1:
        faults.append(
            f"batch_size must be 1 with a script: its handle() gets one request at a time, got {options.batch_size}; "
            f"a request with a list of inputs is the script's own batch"
        )
    scheme, separator, _ = (options.model_id or "").partition("://")
    if separator and scheme != "s3":
        faults.append(f"option.model_id must be s3://bucket/prefix/ or a folder: got {options.model_id!r}")
    return faults


def _is_secret(key: str) -> bool:
    return any(part in key.lower() for part in _SECRET)
