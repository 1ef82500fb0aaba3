"""ModelSpec: the fields of models/<name>.yaml, frozen; unknown keys are refused.

Not what several fields must agree on (rules), nor what `auto` becomes (heavylift.plan). Limits of SageMaker's own
fields are those of its API (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from heavylift.errors import InputError
from heavylift.plan.images import amis
from heavylift.spec.benchmark import BenchmarkSpec, GateSpec, TrafficSpec
from heavylift.spec.container import CompileSpec, ImageSpec, PartitionSpec, PromptSpec, ServingSpec, StagingSpec
from heavylift.spec.fields import (
    Account,
    Auto,
    Count,
    Degree,
    Folder,
    HubId,
    InstanceType,
    KeyArn,
    Listed,
    Name,
    OneOf,
    Region,
    Revision,
    S3Prefix,
    Scalar,
    SecretArn,
    Strictly,
    Timeout,
    Volume,
)
from heavylift.spec.hosting import NetworkSpec, PoolSpec, ReservationSpec, RoutingSpec
from heavylift.spec.layers import read_layers
from heavylift.spec.monitoring import AsyncSpec, MonitoringSpec
from heavylift.spec.rollout import Rollout
from heavylift.spec.rules import rule_faults
from heavylift.spec.rules.beside import beside_faults
from heavylift.spec.scaling import ManagedInstancesSpec, ScalingSpec
from heavylift.spec.variants import ComponentSpec, MultiModelSpec, VariantSpec
from heavylift.spec.wording import field_faults
from heavylift_runtime.engines.registry import ENGINES

EngineName = Annotated[str, OneOf(["auto", *ENGINES])]  # rules refuse the ones that this version cannot run
Quantization = Annotated[str, OneOf(dict.fromkeys(name for row in ENGINES.values() for name in row.quantizations))]
Ami = Annotated[str, OneOf([each.version for each in amis()])]


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


@cache
def _words() -> dict[str, Any]:
    """What the fields may be, for the sentences; pydantic makes it in 50 ms."""
    return ModelSpec.model_json_schema()


class ModelSpec(Strictly):
    """One model file. Read it with from_yaml; what several fields must agree on is checked there only."""

    name: Name = Field(description="also the endpoint's name")
    description: str | None = Field(None, max_length=1024, description="one sentence, for people")
    account: Account | None = Field(None, description="of AWS; default: the one of your credentials")
    region: Region | None = Field(None, description="of AWS; default: the one of your credentials")

    model: Source
    staging: StagingSpec = StagingSpec()
    code: Folder | None = Field(None, description="a folder with model.py, relative to this file")
    prompt: PromptSpec | None = Field(None, description="what every request's text is put into")
    image: ImageSpec | None = Field(None, description="default: Heavylift's own")
    engine: EngineName = Field("auto", description="what runs the model; auto: the registry decides, with the reason")
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = Field("auto", description="auto: as the checkpoint is stored")
    quantization: Quantization = Field("none", description="of the layers' matrices, as the engine has it")
    tensor_parallel_degree: Auto | Degree = Field("auto", description="ranks that share each layer of one copy")
    pipeline_parallel_degree: Degree = Field(1, description="stages that share the layers of one copy")
    partition: PartitionSpec = PartitionSpec()
    compile: CompileSpec | None = None
    options: dict[str, Scalar] = Field(default={}, description="further option.* of serving.properties")
    serving: ServingSpec = ServingSpec()
    environment: dict[str, str] = Field(default={}, description="further environment of the container")
    secrets: dict[str, SecretArn] = Field(default={}, description="environment whose values the container looks up")

    instance_type: Auto | InstanceType = Field("auto", description="auto: the cheapest that keeps the targets")
    instance_pools: Annotated[tuple[PoolSpec, ...], Listed] | None = Field(
        None, min_length=1, max_length=5, description="several types, by priority, instead of `instance_type`"
    )
    variant_instance_provision_timeout_in_seconds: Annotated[int, Field(ge=300, le=3600)] | None = Field(
        None, description="of instance_pools: how long to try one type"
    )
    initial_instance_count: Count = Field(1, description="instances behind the endpoint, to begin with")
    model_data_download_timeout_in_seconds: Auto | Timeout = Field("auto", description="auto: from the bytes")
    container_startup_health_check_timeout_in_seconds: Auto | Timeout = Field(
        "auto", description="auto: from the bytes"
    )
    volume_size_in_gb: Auto | Volume = Field("auto", description="of EBS; refused on types with NVMe disks")
    inference_ami_version: Auto | Ami = Field("auto", description="the machine image, with the accelerator's driver")
    capacity_reservation: ReservationSpec | None = None
    enable_ssm_access: bool = Field(False, description="let Session Manager into the instance, to look for faults")
    routing: RoutingSpec | None = Field(None, description="default: at random, SageMaker's own")
    enable_network_isolation: bool = Field(False, description="no network at all, so SageMaker copies the weights")
    network: NetworkSpec | None = None
    kms_key: KeyArn | None = Field(None, description="of the instances' volumes; NVMe disks have a key of their own")

    scaling: ScalingSpec | None = Field(None, description="default: as many as initial_instance_count")
    managed_instances: ManagedInstancesSpec | None = Field(None, description="of inference_components")
    rollout: Rollout | None = Field(None, description="default: all at once, SageMaker's own")
    monitoring: MonitoringSpec | None = None
    async_inference: AsyncSpec | None = None
    inference_components: Annotated[tuple[ComponentSpec, ...], Listed] | None = Field(
        None, min_length=1, max_length=100, description="copies of the model that share the instances"
    )
    variants: Annotated[tuple[VariantSpec, ...], Listed] | None = Field(
        None, min_length=1, max_length=10, description="several ways of serving it, by shares of the traffic"
    )
    shadow: VariantSpec | None = Field(None, description="gets copies of requests, and answers nobody")
    multi_model: MultiModelSpec | None = None
    tags: dict[str, str] = Field(default={}, description="of everything that is deployed")

    traffic: TrafficSpec | None = Field(None, description="without it the plan counts with the benchmark's load")
    benchmark: BenchmarkSpec | None = Field(None, description="without it the model is deployed unmeasured")
    gate: GateSpec = GateSpec()

    @classmethod
    def from_yaml(cls, path: Path | str, env: str | None = None, *, beside: bool = False) -> ModelSpec:
        """Read a model file, all that it extends, and the overlay of one of its environments.

        `beside`: what it names beside it must be there, too.
        Raises InputError with every fault, each with the file, line and column that it is in.
        """
        layers = read_layers(Path(path), env)
        faults = rule_faults(layers.data, Path(path).stem, env)
        if beside and isinstance(layers.data, dict):
            faults += beside_faults(layers.data, Path(path))
        try:
            spec = cls.model_validate(layers.data)
        except ValidationError as error:
            faults += field_faults(error, layers.data, _words())
        if sentences := layers.located(faults):
            raise InputError(sentences)
        return spec
