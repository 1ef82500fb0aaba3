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

from heavylift_runtime.engines.devices import devices
from heavylift_runtime.engines.registry import ENGINES
from heavylift_runtime.entry import completed
from heavylift_runtime.environment import MEANINGLESS, merged
from heavylift_runtime.errors import OptionsError
from heavylift_runtime.keys import KEYS, known_keys
from heavylift_runtime.manner import followed
from heavylift_runtime.properties import read_properties
from heavylift_runtime.readings import BadValue, Value
from heavylift_runtime.spellings import (
    ENGINE_OF_ROLLING,
    engine_meant,
    is_users,
    leave_out,
    number_of_copies,
    renamed_keys,
)

PROPERTIES = "serving.properties"
_SECRET = ("token", "secret", "password", "credential", "api_key", "access_key")
_MPI = ("mpi", "deepspeed")  # those under which it runs on every rank
_UNSHOWN = ("environment", "properties", "warnings")
_ALWAYS = ("engine", "model_id", "dtype", "tensor_parallel_degree", "workers", "batch_size", "job_queue_size")
_ROLLING = 32  # rows at once where nothing says how many; LMI's default


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
    throttle_http_code: int = 503
    max_request_size: int = 6 * 2**20
    retry_threshold: int = 3
    required_memory_mb: int | None = None
    reserved_memory_mb: int = 500
    rolling_batch: str = "auto"
    max_rolling_batch_size: int | None = None
    max_model_len: int | None = None
    batch_invariant: bool = False
    output_formatter: str = "jsonlines"
    tgi_compat: bool = False
    lmi_compat: str = "none"
    sessions: bool = False
    sessions_path: str | None = None
    sessions_expiration: int = 1200
    model_loading_timeout: int = 3600
    predict_timeout: int = 60
    mpi_mode: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)  # of the ranks, beside the server's own
    spelling: str = "Python"  # a script's `engine=` as it is written, which the script may ask for
    properties: Mapping[str, str] = field(default_factory=dict)  # every `option.*` as written, without the prefix
    warnings: tuple[str, ...] = ()  # what was read, and should be written otherwise

    @classmethod
    def parse(cls, given: str | Mapping[str, str], environ: Mapping[str, str]) -> Options:
        """The options of a file (its text, or its keys and values) and an environment; raises OptionsError."""
        written = read_properties(given) if isinstance(given, str) else dict(given)
        warnings = [f"{name} means nothing here: it is not read" for name in sorted(MEANINGLESS & environ.keys())]
        faults: list[str] = []
        values = merged(written, environ)
        try:
            engine = engine_meant(values)
        except OptionsError as error:
            faults.extend(error.faults)
            engine = "script" if values.get("engine", "").lower() == "python" else "native"
        values = number_of_copies(renamed_keys(values, engine, faults, warnings), environ, faults, warnings)
        leave_out(values, written, environ, engine, warnings)
        found = _read(values, engine, faults)
        options: dict[str, Any] = {name: value for name, (_, value) in found.items()} | {"engine": engine}
        if engine == "script":
            options["spelling"] = values.get("engine", "Python")
            if options["spelling"].lower() in _MPI:
                options.setdefault("mpi_mode", True)
        if "batch_size" not in found and engine != "script":
            options.setdefault("max_rolling_batch_size", _ROLLING)
        values.pop("option.env", None)  # as in LMI: a script is not told of it
        properties = {key.removeprefix("option."): text for key, text in values.items() if key.startswith("option.")}
        parsed = cls(**options, properties=properties, warnings=tuple(warnings))
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
        written = completed(written, environ, folder)
        if merged(written, environ).get("option.tensor_parallel_degree") == "max":
            written["option.tensor_parallel_degree"] = str(devices(environ))
        return cls.parse(written, environ)

    @property
    def capacity(self) -> int:
        """Rows that an engine runs at once."""
        if self.rolling_batch == "disable" or self.max_rolling_batch_size is None:
            return self.batch_size
        return self.max_rolling_batch_size

    @property
    def ranks(self) -> int:
        """Processes of one copy: a script without mpi_mode is one, and so is an engine that starts its own."""
        alone = ENGINES[self.engine].one_process or (self.engine == "script" and not self.mpi_mode)
        return 1 if alone else self.tensor_parallel_degree * self.pipeline_parallel_degree

    def to_json(self) -> dict[str, Any]:
        """As JSON, for a worker process."""
        return {each.name: getattr(self, each.name) for each in fields(self)} | {
            "environment": dict(self.environment),
            "properties": dict(self.properties),
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Options:
        """The inverse of to_json."""
        return cls(**{**document, "warnings": tuple(document["warnings"])})

    def elsewhere(self, folder: Path) -> bool:
        """Whether our own loader reads the weights from S3 or the hub; `folder` is the model's, and does not have them.

        Other engines' libraries know the hub themselves.
        """
        if self.model_id is None or self.model_id.startswith("s3://"):
            return self.model_id is not None
        return self.engine in ("native", "fastertransformer") and not (folder / self.model_id).is_dir()

    def describe(self) -> str:
        """The effective configuration in one line: what matters most, and what is not as usual; no secrets."""
        usual = Options()
        shown = [
            f"{each.name}={getattr(self, each.name)}"
            for each in fields(self)
            if each.name not in _UNSHOWN
            and (each.name in _ALWAYS or getattr(self, each.name) != getattr(usual, each.name))
        ]
        shown += [f"option.env={','.join(self.environment)}"] if self.environment else []
        own = [key for key in self.properties if f"option.{key}" not in KEYS]
        shown += [f"option.{key}={'***' if _is_secret(key) else self.properties[key]}" for key in own]
        return " ".join(shown)


def model_folder(given: Path) -> Path:
    """The folder with serving.properties: the one that is given, or the only one in it that has one (what comes of an
    archive of a folder)."""
    nested = sorted(path.parent for path in given.glob(f"*/{PROPERTIES}"))
    return nested[0] if len(nested) == 1 and not (given / PROPERTIES).exists() else given


def _read(values: Mapping[str, str], engine: str, faults: list[str]) -> dict[str, tuple[str, Value]]:
    """The fields of Options that the values fill, each with the key that filled it."""
    known = known_keys(engine)
    through = ENGINES[engine].passes_through
    found: dict[str, tuple[str, Value]] = {}
    for name, text in values.items():
        if name not in known:
            if not (through and name.startswith("option.")):
                faults.append(_unknown(name, engine))
            continue
        key = KEYS.get(name)
        if key is None:
            continue  # the engine's own: it reads the text
        try:
            value = key.read(text)
        except BadValue as error:
            if key.field in ("dtype", "rolling_batch") and is_users(engine, values.get("option.entryPoint")):
                continue  # a word between a script and its libraries, such as int8
            faults.append(f"{name} must be {error}" + (f": got {text!r}" if key.field != "environment" else ""))
            continue
        if not key.field:
            continue
        other = found.setdefault(key.field, (name, value))
        if other[1] != value:
            faults.append(f"{other[0]} and {name} must be the same: got {other[1]} and {value}")
    return found


def _unknown(name: str, engine: str) -> str:
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
    quantizations = (*row.quantizations, *row.gpu_quantizations)
    elsewhere = {name for each in ENGINES.values() for name in (*each.quantizations, *each.gpu_quantizations)}
    vllms = row.name == "vllm" and options.quantize not in elsewhere  # it has more of them, and says which
    if options.quantize not in quantizations and not vllms and not is_users(row.name, options.entry_point):
        has = ", ".join(quantizations)
        faults.append(f"option.quantize={options.quantize} is not of engine {row.name}: use {has}")
    if options.tensor_parallel_degree > 1 and not row.tensor_parallel and row.name != "script":
        faults.append(
            f"option.tensor_parallel_degree must be 1: engine {row.name} splits no layers over ranks, "
            f"got {options.tensor_parallel_degree}"
        )
    if options.pipeline_parallel_degree > 1 and not row.pipeline_parallel:
        faults.append(
            f"option.pipeline_parallel_degree must be 1: engine {row.name} has no pipeline, "
            f"got {options.pipeline_parallel_degree}"
        )
    rolling = ENGINE_OF_ROLLING.get(options.rolling_batch)
    if rolling is not None and rolling != row.name and options.engine != "script":
        faults.append(
            f"option.rolling_batch={options.rolling_batch} is of engine {rolling}, not of {row.name}: "
            f"use auto or disable"
        )
    if options.throttle_http_code not in (429, 503):
        faults.append(f"throttle_http_code must be 429 or 503: got {options.throttle_http_code}")
    try:
        followed(options.properties, row.name)
    except ValueError as error:
        faults.append(str(error))
    scheme, separator, _ = (options.model_id or "").partition("://")
    if separator and scheme != "s3":
        faults.append(f"option.model_id must be s3://bucket/prefix/ or a folder: got {options.model_id!r}")
    return faults


def _is_secret(key: str) -> bool:
    return any(part in key.lower() for part in _SECRET)
