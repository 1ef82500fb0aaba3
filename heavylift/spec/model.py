"""ModelSpec: the fields of models/<name>.yaml, frozen; unknown keys are refused.

Not what several fields must agree on (rules.py), nor what `auto` becomes (heavylift.plan). Limits of SageMaker's own
fields are those of its API (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from heavylift.errors import InputError
from heavylift.spec.document import Document
from heavylift.spec.rules import rule_faults
from heavylift.spec.wording import field_faults

Auto = Literal["auto"]


def _text(pattern: str, allowed: str, longest: int) -> Any:
    """A text field; `patternErrorMessage` is what editors (YAML language server) and our own faults say."""
    return Field(pattern=pattern, max_length=longest, json_schema_extra={"patternErrorMessage": allowed})


Name = Annotated[
    str,
    _text(
        r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
        "lower-case letters, digits and single hyphens, beginning with a letter, at most 40 characters",
        40,
    ),
]
Folder = Annotated[
    str,
    _text(
        r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$",
        "a folder beside this file, or below: letters, digits, '.', '_', '-' and '/', no '..'",
        255,
    ),
]
S3Prefix = Annotated[
    str,
    _text(
        r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()-]+)+/$",
        "s3://bucket/prefix/, ending with '/'",
        1024,
    ),
]
HubId = Annotated[
    str, _text(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", "a Hugging Face id such as google/flan-t5-xxl", 96)
]
Revision = Annotated[
    str, _text(r"^[0-9a-f]{40}$", "a commit: 40 hexadecimal digits (quoted, if they are all digits)", 40)
]
InstanceType = Annotated[
    str, _text(r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", "a SageMaker instance type such as ml.c6i.xlarge", 63)
]
Timeout = Annotated[int, Field(ge=60, le=3600)]
Degree = Annotated[int, Field(ge=1, le=64)]
Percentile = Annotated[float, Field(gt=0, lt=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Scalar = bool | int | float | str
EngineName = Literal[
    "auto", "native", "script", "fastertransformer", "deepspeed", "accelerate", "neuronx", "vllm"
]  # those of the registry; rules.py refuses the ones that this version cannot run


class Strictly(BaseModel):
    """Neither unknown keys nor silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Source(Strictly):
    """Where the model comes from: exactly one of `path`, `s3`, `id`."""

    path: Folder | None = Field(None, description="a folder, relative to this file")
    s3: S3Prefix | None = Field(None, description="a prefix in S3")
    id: HubId | None = Field(None, description="a Hugging Face id; needs `revision`")
    revision: Revision | None = Field(None, description="the commit of `id`")

    def __str__(self) -> str:
        """The lock's form: `path:tiny-t5`, `s3://…`, `hub:google/flan-t5-xxl`."""
        if self.path is not None:
            return f"path:{self.path}"
        return self.s3 if self.s3 is not None else f"hub:{self.id}"


class ServingSpec(Strictly):
    """How the server takes requests."""

    workers: int = Field(1, ge=1, le=64, description="copies of the model on one instance")
    batch_size: int = Field(1, ge=1, le=1024, description="requests that the server may put into one batch")
    max_batch_delay: int = Field(10, ge=0, le=60_000, description="milliseconds to wait for a fuller batch")
    job_queue_size: int = Field(100, ge=1, le=100_000, description="requests that may wait; more get 503")


class LoadSpec(Strictly):
    """Closed: clients that send their next request when the last one is answered. Open: arrivals that wait for nobody,
    whose latency counts from when they were due. Which fields go together is checked in rules.py."""

    mode: Literal["closed", "open"] = "closed"
    concurrency: int = Field(1, ge=1, le=256, description="clients of a closed load")
    arrivals: Literal["poisson", "constant", "gamma", "ramp", "trace"] | None = Field(
        None, description="of an open load"
    )
    rate: float | None = Field(None, gt=0, le=10_000, description="requests a second")
    cv: float | None = Field(None, gt=0, le=20, description="of gamma: standard deviation of the gaps over their mean")
    to_rate: float | None = Field(None, gt=0, le=10_000, description="of a ramp: the rate at its end")
    ramp_s: float | None = Field(None, gt=0, le=86_400, description="of a ramp: its seconds")
    times_s: Annotated[tuple[float, ...], Strict(False)] | None = Field(
        None, description="of a trace: when each is due"
    )
    max_in_flight: int | None = Field(None, ge=1, le=900, description="requests of an open load under way at a time")

    def to_dict(self) -> dict[str, Any]:
        """The load as the benchmark has it: only what its mode uses."""
        said = {key: value for key, value in self.model_dump().items() if value is not None}
        if self.mode == "open":
            del said["concurrency"]
            said |= {"arrivals": self.arrivals or "poisson"}
        return said | ({"times_s": list(self.times_s)} if self.times_s is not None else {})


class WarmupSpec(Strictly):
    """The load is warm when three windows of requests take as long as each other; else the run is void."""

    until: Literal["stationary"] = "stationary"
    window: int = Field(8, ge=3, le=10_000, description="requests")
    max_requests: int = Field(240, ge=9, le=100_000)


Range = Annotated[tuple[int, ...], Strict(False), Field(min_length=2, max_length=2)]


class SyntheticSpec(Strictly):
    """Prompts of given lengths, without right answers; each length is drawn evenly from [least, most]."""

    prompt_words: Range
    new_tokens: Range
    shared_prefix_words: int = Field(0, ge=0, le=100_000, description="that all prompts begin with")
    prompts: int = Field(256, ge=1, le=10_000)


class OwnPrompts(Strictly):
    """Prompts made from the benchmark's seed, or those of a file of JSON lines: exactly one of the two."""

    synthetic: SyntheticSpec | None = None
    dataset: Folder | None = Field(None, description="a .jsonl beside this file: task, input, answer?, new_tokens?")


Confidence = Annotated[float, Field(ge=0.5, le=0.9999)]


class LatencyTarget(Strictly):
    """In milliseconds, at a percentile: from the intended send to the last byte, from the actual send (`service`), to
    the first token (`ttft`), between tokens (`itl`), or the mean per token after the first (`tpot`)."""

    metric: Literal["e2e_latency", "service_latency", "ttft", "tpot", "itl"]
    percentile: Percentile
    max_ms: float = Field(gt=0)
    confidence: Confidence = 0.95


class ErrorTarget(Strictly):
    """Failed requests, as a share of all measured."""

    metric: Literal["error_rate"]
    max: Share
    confidence: Confidence = 0.95


class QualityTarget(Strictly):
    """Rows answered correctly, as a share of all measured; or rows that say the same alone, in a batch, under load."""

    metric: Literal["quality", "batch_invariance", "load_invariance"]
    min: Share


class AttainmentTarget(Strictly):
    """Good requests (answered, right, in time), as a share of all measured."""

    metric: Literal["attainment"]
    min: Share
    confidence: Confidence = 0.95


class ThroughputTarget(Strictly):
    """Generated tokens, answered requests or good requests per second, over the measured time."""

    metric: Literal["tokens_per_second", "requests_per_second", "goodput"]
    min: float = Field(gt=0)


class CostTarget(Strictly):
    """US dollars, at the plan's price of the instance."""

    metric: Literal["cost_per_1k_good_requests_usd", "cost_per_1m_tokens_usd"]
    max: float = Field(gt=0)


Target = Annotated[
    LatencyTarget | ErrorTarget | QualityTarget | AttainmentTarget | ThroughputTarget | CostTarget,
    Field(discriminator="metric"),
]


class BenchmarkSpec(Strictly):
    """What is measured after a deployment, and the targets it must meet."""

    workload: Literal["four-tasks"] | OwnPrompts
    load: LoadSpec = LoadSpec()
    stream: bool = Field(False, description="ask for tokens as they come: one prompt in each request")
    api: Literal["heavylift", "tgi", "openai-chat", "openai-completions"] = "heavylift"
    warmup_requests: int = Field(8, ge=0, le=10_000, description="at least")
    warmup: WarmupSpec = WarmupSpec()
    probes: int = Field(2, ge=0, le=64, description="batches that are first sent alone, and row by row, to be compared")
    requests: Auto | Annotated[int, Field(ge=1, le=100_000)] = Field(200, description="auto: as many as decide")
    max_usd: float | None = Field(None, gt=0, le=1_000_000, description="what the instances may cost meanwhile")
    max_seconds: int = Field(300, ge=1, le=3300, description="CloudFormation waits 3600 seconds for a gate's answer")
    seed: int = Field(7, ge=0, le=2**32 - 1)
    slo: Annotated[tuple[Target, ...], Strict(False)] = Field(min_length=1, description="service level objectives")


class TrafficSpec(Strictly):
    """What the plan counts with, where it is more than the benchmark: mean sizes, and the rate of requests."""

    input_tokens: int = Field(ge=1, le=1_000_000, description="of a prompt, on average")
    output_tokens: int = Field(ge=1, le=1_000_000, description="of an answer, on average")
    requests_per_second: float | None = Field(None, gt=0, le=1e6, description="over all instances; one prompt each")
    max_first_token_ms: float | None = Field(None, gt=0, description="time to the first token, for the plan only")
    max_per_token_ms: float | None = Field(None, gt=0, description="time per output token, for the plan only")


class GateSpec(Strictly):
    """What a missed target does to the deployment; and whether a run that is too small to tell is missed, too."""

    on_fail: Literal["rollback", "hold", "warn"] = "rollback"
    on_inconclusive: Literal["fail", "pass"] = "fail"


class ModelSpec(Strictly):
    """One model file. Read it with from_yaml; what several fields must agree on is checked there only."""

    name: Name = Field(description="also the endpoint's name")
    description: str | None = Field(None, max_length=1024)
    model: Source
    code: Folder | None = Field(None, description="a folder with model.py, relative to this file")
    engine: EngineName = "auto"
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    quantization: Literal["none"] = "none"
    tensor_parallel_degree: Auto | Degree = "auto"
    pipeline_parallel_degree: Literal[1] = 1
    options: dict[str, Scalar] = Field(default={}, description="further option.* of serving.properties")
    serving: ServingSpec = ServingSpec()
    instance_type: Auto | InstanceType = "auto"
    initial_instance_count: int = Field(1, ge=1, le=1000)
    model_data_download_timeout_in_seconds: Auto | Timeout = "auto"
    container_startup_health_check_timeout_in_seconds: Auto | Timeout = "auto"
    volume_size_in_gb: Auto | Annotated[int, Field(ge=1, le=512)] = "auto"
    enable_network_isolation: bool = False
    environment: dict[str, str] = Field(default={}, description="further environment of the container")
    tags: dict[str, str] = {}
    traffic: TrafficSpec | None = Field(None, description="without it the plan counts with the benchmark's load")
    benchmark: BenchmarkSpec | None = Field(None, description="without it the model is deployed unmeasured")
    gate: GateSpec = GateSpec()

    @classmethod
    def from_yaml(cls, path: Path | str) -> ModelSpec:
        """Read a model file. Raises InputError with every fault, each with its line and column."""
        document = Document.read(Path(path))
        faults = [*document.faults, *rule_faults(document.data, Path(path).stem)]
        try:
            spec = cls.model_validate(document.data)
        except ValidationError as error:
            faults += field_faults(error, document.data, cls.model_json_schema())
        if faults:
            raise InputError(document.located(faults))
        return spec
