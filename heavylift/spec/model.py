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


class ClosedLoad(Strictly):
    """Clients that send their next request when the last one is answered."""

    mode: Literal["closed"] = "closed"
    concurrency: int = Field(1, ge=1, le=256, description="clients")


class LatencyTarget(Strictly):
    """From the intended send to the last byte, in milliseconds, at a percentile."""

    metric: Literal["e2e_latency"]
    percentile: Percentile
    max_ms: float = Field(gt=0)


class ErrorTarget(Strictly):
    """Failed requests, as a share of all measured."""

    metric: Literal["error_rate"]
    max: Share


class QualityTarget(Strictly):
    """Rows answered correctly, as a share of all measured."""

    metric: Literal["quality"]
    min: Share


class ThroughputTarget(Strictly):
    """Generated tokens per second, over the measured time."""

    metric: Literal["tokens_per_second"]
    min: float = Field(gt=0)


Target = Annotated[LatencyTarget | ErrorTarget | QualityTarget | ThroughputTarget, Field(discriminator="metric")]


class BenchmarkSpec(Strictly):
    """What is measured after a deployment, and the targets it must meet."""

    workload: Literal["four-tasks"]
    load: ClosedLoad = ClosedLoad()
    warmup_requests: int = Field(8, ge=0, le=10_000)
    requests: int = Field(200, ge=1, le=100_000)
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
