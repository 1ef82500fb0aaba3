"""Where the container runs: instance pools, reserved capacity, routing, network. Not how many: scaling.py.

Limits are the API's: ProductionVariant, InstancePool, ProductionVariantRoutingConfig, VpcConfig
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heavylift.spec.fields import InstanceType, Listed, ReservationArn, SecurityGroup, Strictly, Subnet


class PoolSpec(Strictly):
    """One of several instance types; SageMaker takes the one of the highest priority that has capacity."""

    instance_type: InstanceType
    priority: int = Field(ge=1, le=5, description="1 is tried first")


class ReservationSpec(Strictly):
    """Capacity that is reserved: instances start there, and nowhere else."""

    arn: ReservationArn


class RoutingSpec(Strictly):
    """Which instance gets a request."""

    strategy: Literal["least_outstanding_requests", "random", "prefix_aware", "kv_aware"]
    prefix_length: int | None = Field(None, ge=1024, le=65_536, description="of prefix_aware: characters compared")
    concurrency_threshold: int | None = Field(None, ge=1, le=1024, description="of prefix_aware: requests at a time")


class NetworkSpec(Strictly):
    """The VPC in which the container runs; without it, SageMaker's own network."""

    subnets: Annotated[tuple[Subnet, ...], Listed] = Field(min_length=1, max_length=16)
    security_groups: Annotated[tuple[SecurityGroup, ...], Listed] = Field(min_length=1, max_length=5)
    image_access: Literal["platform", "vpc"] = Field("platform", description="pull the image through SageMaker or VPC")
