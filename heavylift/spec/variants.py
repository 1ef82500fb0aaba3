"""More than one model, or one way of serving it, behind an endpoint: variants, components, adapters, many models.

Not what they share: that is the rest of the file. Limits: API_ProductionVariant, API_InferenceComponentSpecification,
API_InferenceComponentComputeResourceRequirements, API_MultiModelConfig
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heavylift.spec.container import ServingSpec
from heavylift.spec.fields import (
    Auto,
    Count,
    Degree,
    InstanceType,
    Listed,
    S3Prefix,
    SageMakerName,
    Scalar,
    Strictly,
    Timeout,
    Variable,
    Volume,
    text,
)
from heavylift.spec.scaling import ScalingSpec


class AdapterSpec(Strictly):
    """A LoRA adapter, served by the component that it belongs to."""

    name: SageMakerName
    artifact: Annotated[
        str, text(r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+\.tar\.gz$", "s3://bucket/key.tar.gz", 1024)
    ]


class ComponentSpec(Strictly):
    """Copies of the model that share the endpoint's instances."""

    name: SageMakerName
    copies: int = Field(1, ge=1, le=1000, description="when it is created; SageMaker takes no 0 then")
    accelerators: int | None = Field(None, ge=1, le=64, description="devices of one copy")
    cpus: float | None = Field(None, ge=0.25, le=448, description="virtual cores of one copy")
    min_memory_in_mb: Auto | Annotated[int, Field(ge=128)] = "auto"
    max_memory_in_mb: Annotated[int, Field(ge=128)] | None = None
    placement: Literal["spread", "binpack"] = "spread"
    balance_zones: bool = Field(True, description="over the availability zones")
    cache: bool = Field(False, description="keep image and weights on the instance, for quicker copies")
    scaling: ScalingSpec | None = Field(None, description="of its copies; default: the file's own")
    adapters: Annotated[tuple[AdapterSpec, ...], Listed] = Field((), max_length=100)


class VariantSpec(Strictly):
    """A production or shadow variant: what it has otherwise than the file."""

    name: SageMakerName
    weight: float = Field(1.0, ge=0, le=1_000_000, description="its share of the traffic; of a shadow: of the copies")
    instance_type: Auto | InstanceType | None = None
    initial_instance_count: Count | None = None
    tensor_parallel_degree: Auto | Degree | None = None
    options: dict[str, Scalar] | None = None
    serving: ServingSpec | None = None
    environment: dict[Variable, str] | None = None
    model_data_download_timeout_in_seconds: Auto | Timeout | None = None
    container_startup_health_check_timeout_in_seconds: Auto | Timeout | None = None
    volume_size_in_gb: Auto | Volume | None = None


class MultiModelSpec(Strictly):
    """Many models of one kind below a prefix, loaded as they are asked for (TargetModel)."""

    prefix: S3Prefix = Field(description="of the models' .tar.gz files")
    cache: bool = Field(True, description="keep loaded models in memory (ModelCacheSetting)")
