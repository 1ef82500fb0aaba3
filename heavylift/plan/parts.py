"""The parts of a Plan: decisions, the model, its instance, memory, server, benchmark and expected speed; all frozen.

Not the Plan itself, its JSON or its prefixes: those are plan.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

Where = Literal["host", "accelerator", "disk", "shm"]
WHERES: tuple[Where, ...] = ("host", "accelerator", "disk", "shm")
How = Literal["given", "computed", "measured", "assumed"]


class Part:
    """A part of the plan; reading it back from JSON refuses unknown keys."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Decision(Part):
    """One answered question: `why` holds the arithmetic, with units."""

    field: str
    value: str
    how: How
    why: str


@dataclass(frozen=True)
class Model(Part):
    """What is served; `family` is config.json's model_type, None without config.json.

    `bytes` counts all files, `weights_bytes` those with tensors; `code` is the folder with model.py, `prompt` as the
    model file has it.
    """

    source: str
    revision: str | None
    family: str | None
    parameters: int | None
    checkpoint_dtype: str | None
    weights_bytes: int
    bytes: int
    code: str | None
    prompt: dict[str, Any] | None = None


@dataclass(frozen=True)
class Price(Part):
    """US dollars for one instance and hour; `how` is `published` or `estimated`."""

    usd_per_hour: float
    region: str
    how: Literal["published", "estimated"]
    date: str
    source: str


@dataclass(frozen=True)
class Instance(Part):
    """The instance type and its facts; memory in GiB (2**30), network in Gbit/s, None where unknown."""

    type: str
    count: int
    vcpus: int
    memory_gib: float
    accelerator: str | None
    accelerators: int
    accelerator_memory_gib: float
    nvme: bool | None
    network_gbps: float | None
    price: Price | None


@dataclass(frozen=True)
class LedgerRow(Part):
    """`bytes` needed by `what` in `where`, and the formula that gave them."""

    where: Where
    what: str
    bytes: int
    formula: str


@dataclass(frozen=True)
class Memory(Part):
    """Who needs how much: one accelerator (of the worst rank), the whole host, its disk, and of the host's memory
    the part that processes share (shm); available bytes beside it."""

    rows: tuple[LedgerRow, ...]
    host_available: int
    accelerator_available: int
    disk_available: int = 0
    shm_available: int = 0

    def needed(self, where: Where) -> int:
        """Bytes needed in `where`."""
        return sum(row.bytes for row in self.rows if row.where == where)

    def available(self, where: Where) -> int:
        """Bytes that can be used in `where`."""
        places = {
            "host": self.host_available,
            "accelerator": self.accelerator_available,
            "disk": self.disk_available,
            "shm": self.shm_available,
        }
        return places[where]

    def missing(self, where: Where) -> int:
        """Bytes needed beyond those available."""
        return max(0, self.needed(where) - self.available(where))


@dataclass(frozen=True)
class Serving(Part):
    """The server's keys; `max_batch_delay` in milliseconds."""

    workers: int
    batch_size: int
    max_batch_delay: int
    job_queue_size: int


@dataclass(frozen=True)
class Variant(Part):
    """The EndpointConfig's ProductionVariant; seconds, GB; None leaves the property out."""

    model_data_download_timeout_in_seconds: int
    container_startup_health_check_timeout_in_seconds: int
    volume_size_in_gb: int | None
    inference_ami_version: str | None


@dataclass(frozen=True)
class Job(Part):
    """What makes the artifact that is served, once, before the model: `key` names all that goes into it.

    `options` are the job's OPTION_* environment; `expected` is what the artifact's own manifest must say. Seconds, GB.
    """

    kind: Literal["partition", "compile"]
    key: str
    instance_type: str
    volume_size_in_gb: int
    max_seconds: int
    options: dict[str, str]
    expected: dict[str, Any]

    @property
    def service(self) -> Literal["processing", "training"]:
        """Which of SageMaker's jobs it is: processing jobs have no NeuronCores (ProcessingInstanceType)."""
        return "training" if self.instance_type.startswith("ml.trn") else "processing"

    @property
    def prefix(self) -> str:
        """Key prefix of the artifact in the weight bucket."""
        return f"artifacts/{self.key}/"


@dataclass(frozen=True)
class Benchmark(Part):
    """What the gate runs; `slo` holds the targets as in the model file."""

    workload: str | dict[str, Any]
    load: dict[str, Any]
    warmup_requests: int
    requests: int | Literal["auto"]
    max_seconds: int
    seed: int
    slo: tuple[dict[str, Any], ...]
    stream: bool = False
    api: str = "heavylift"
    warmup: dict[str, Any] | None = None
    probes: int = 0
    max_usd: float | None = None
    inference_component: str | None = None
    target_model: str | None = None
    asynchronous: bool | None = None


@dataclass(frozen=True)
class Gate(Part):
    """What a missed target does; whether a run that is too small to tell is missed, too; where the benchmark runs."""

    on_fail: Literal["rollback", "hold", "warn"]
    on_inconclusive: Literal["fail", "pass"]
    strategy: Literal["after_create", "staging", "dark_variant"] = "after_create"


@dataclass(frozen=True)
class Range(Part):
    """A tenth of what may be true is below `p10`, half below `p50`, a tenth above `p90`."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True)
class Performance(Part):
    """What the plan expects of the mean request under the load; milliseconds, generated tokens, US dollars.

    `batch` prompts are in a copy's batch. `most_tokens_per_second`: when each copy is as full as the targets allow.
    `probability`: that every target is kept, over the uncertainty of the coefficients that `calibration` names.
    """

    load: str
    load_how: How
    first_token_ms: Range
    per_token_ms: Range
    request_ms: Range
    tokens_per_second: Range
    most_tokens_per_second: Range
    batch: float
    probability: float
    usd_per_million_tokens: float | None
    usd_per_million_tokens_most: float | None
    calibration: str
    calibrated: bool


@dataclass(frozen=True)
class Alternative(Part):
    """Another way, of those that no other beats; `asks` are the lines that the model file lacks for it.

    `copies` on each of `instances`; US dollars for all of them; the slowest tenth of what may be true, milliseconds.
    """

    instance_type: str
    instances: int
    engine: str
    dtype: str
    quantization: str
    tensor_parallel_degree: int
    pipeline_parallel_degree: int
    copies: int
    usd_per_hour: float
    usd_per_million_tokens: float | None
    first_token_ms_p90: float
    per_token_ms_p90: float
    load_seconds: float
    probability: float
    asks: tuple[str, ...]
