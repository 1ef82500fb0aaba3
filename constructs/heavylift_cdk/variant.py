"""Variant: one production or shadow variant of an endpoint: its containers, machines, share, times, routing.

Not the endpoint. All that CloudFormation knows can be said, but AcceleratorType: Elastic Inference has ended.
Limits: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProductionVariant.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aws_cdk import aws_sagemaker as sagemaker

from heavylift.plan.facts import instances
from heavylift_cdk import compatibility
from heavylift_cdk.bounds import between, named
from heavylift_cdk.capacity import Capacity, Instances, Pools, Serverless
from heavylift_cdk.container import Container

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_kms as kms

Config = sagemaker.CfnEndpointConfig

ONLY = "AllTraffic"
"""The name of a variant that is alone."""


@dataclass(frozen=True)
class Routing:
    """Which instance gets a request; the two numbers are of `prefix_aware`, in characters and requests."""

    strategy: Literal["least_outstanding_requests", "random", "prefix_aware", "kv_aware"]
    prefix_length: int | None = None
    concurrency_threshold: int | None = None

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        yield from between("prefix_length", self.prefix_length, 1024, 65_536)
        yield from between("concurrency_threshold", self.concurrency_threshold, 1, 1024)
        if self.strategy != "prefix_aware" and (self.prefix_length, self.concurrency_threshold) != (None, None):
            yield f"'prefix_length' and 'concurrency_threshold' are of prefix_aware routing: got {self.strategy}"

    def render(self) -> sagemaker.CfnEndpointConfig.RoutingConfigProperty:
        """The variant's property."""
        prefix = None
        if (self.prefix_length, self.concurrency_threshold) != (None, None):
            prefix = Config.PrefixAwareRoutingConfigProperty(
                prefix_length=self.prefix_length, concurrency_threshold=self.concurrency_threshold
            )
        return Config.RoutingConfigProperty(routing_strategy=self.strategy.upper(), prefix_aware_routing_config=prefix)


@dataclass(frozen=True)
class ManagedInstances:
    """Instances that SageMaker adds and removes for inference components; `minimum` 0 where all may go."""

    minimum: int
    maximum: int
    scale_in: Literal["idle_release", "consolidation"] | None = None
    scale_in_step: int | None = None
    scale_in_cooldown_in_minutes: int | None = None

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        yield from between("maximum", self.maximum, 1, 1_000_000)
        yield from between("minimum", self.minimum, 0, self.maximum)
        yield from between("scale_in_step", self.scale_in_step, 1, 100)
        yield from between("scale_in_cooldown_in_minutes", self.scale_in_cooldown_in_minutes, 5, 1440)
        if self.scale_in is None and (self.scale_in_step, self.scale_in_cooldown_in_minutes) != (None, None):
            yield "'scale_in_step' and 'scale_in_cooldown_in_minutes' need 'scale_in': idle_release or consolidation"

    def render(self) -> sagemaker.CfnEndpointConfig.ManagedInstanceScalingProperty:
        """The variant's property."""
        policy = None
        if self.scale_in is not None:
            policy = Config.ScaleInPolicyProperty(
                strategy=self.scale_in.upper(),
                maximum_step_size=self.scale_in_step,
                cooldown_in_minutes=self.scale_in_cooldown_in_minutes,
            )
        return Config.ManagedInstanceScalingProperty(
            status="ENABLED",
            min_instance_count=self.minimum,
            max_instance_count=self.maximum,
            scale_in_policy=policy,
        )


@dataclass(frozen=True)
class CoreDump:
    """Where a container that crashes leaves its memory."""

    uri: str
    key: kms.IKey | None = None


@dataclass(frozen=True)
class Variant:
    """Without `containers` it hosts inference components. A shadow's `weight` is the share of requests it is copied."""

    capacity: Capacity
    containers: tuple[Container, ...] = ()
    name: str = ONLY
    weight: float = 1.0
    model_data_download_timeout_in_seconds: int | None = None
    container_startup_health_check_timeout_in_seconds: int | None = None
    volume_size_in_gb: int | None = None
    inference_ami_version: str | None = None
    routing: Routing | None = None
    managed_instances: ManagedInstances | None = None
    capacity_reservation_arn: str | None = None
    enable_ssm_access: bool | None = None
    core_dump: CoreDump | None = None

    def faults(self) -> Iterator[str]:
        """Everything that SageMaker would refuse, as far as it can be known before."""
        download, health = (
            self.model_data_download_timeout_in_seconds,
            self.container_startup_health_check_timeout_in_seconds,
        )
        yield from named("name", self.name)
        yield from self.capacity.faults()
        yield from between("containers", len(self.containers), 0, 15)
        yield from between("weight", self.weight, 0, float("inf"))
        yield from between("model_data_download_timeout_in_seconds", download, 60, 3600)
        yield from between("container_startup_health_check_timeout_in_seconds", health, 60, 3600)
        yield from between("volume_size_in_gb", self.volume_size_in_gb, 1, 512)
        for part in (*self.containers, self.routing, self.managed_instances):
            if part is not None:
                yield from part.faults()
        yield from self._disk_faults()
        for container in self.containers:
            image = container.image
            yield from compatibility.faults(image.hardware, image.cuda, self.capacity.types, self.inference_ami_version)
        if self.managed_instances is not None and self.containers:
            yield f"'managed_instances' are of inference components: variant {self.name} has containers of its own"

    def _disk_faults(self) -> Iterator[str]:
        if self.volume_size_in_gb is not None:
            known = instances()
            for type_ in self.capacity.types:
                if type_ in known and known[type_].nvme:
                    yield f"'volume_size_in_gb' must be left out on {type_}, which has a disk of its own"

    def render(self, models: tuple[str, ...]) -> sagemaker.CfnEndpointConfig.ProductionVariantProperty:
        """The EndpointConfig's property; `models` are the names of the own model, then of the pools' own models."""
        own, capacity = (models[0] if self.containers else None), self.capacity
        return Config.ProductionVariantProperty(
            variant_name=self.name,
            model_name=own,
            initial_variant_weight=self.weight,
            instance_type=capacity.type if isinstance(capacity, Instances) else None,
            initial_instance_count=None if isinstance(capacity, Serverless) else capacity.count,
            instance_pools=_pools(capacity, models[1:] if self.containers else models),
            variant_instance_provision_timeout_in_seconds=capacity.provision_timeout_in_seconds
            if isinstance(capacity, Pools)
            else None,
            serverless_config=_serverless(capacity),
            model_data_download_timeout_in_seconds=self.model_data_download_timeout_in_seconds,
            container_startup_health_check_timeout_in_seconds=self.container_startup_health_check_timeout_in_seconds,
            volume_size_in_gb=self.volume_size_in_gb,
            inference_ami_version=self.inference_ami_version,
            routing_config=None if self.routing is None else self.routing.render(),
            managed_instance_scaling=None if self.managed_instances is None else self.managed_instances.render(),
            capacity_reservation_config=_reservation(self.capacity_reservation_arn),
            enable_ssm_access=self.enable_ssm_access,
            core_dump_config=None
            if self.core_dump is None
            else Config.CoreDumpConfigProperty(
                destination_s3_uri=self.core_dump.uri,
                kms_key_id=None if self.core_dump.key is None else self.core_dump.key.key_arn,
            ),
        )


def _pools(capacity: Capacity, own: tuple[str, ...]) -> list[sagemaker.CfnEndpointConfig.InstancePoolProperty] | None:
    if not isinstance(capacity, Pools):
        return None
    names = iter(own)
    return [
        Config.InstancePoolProperty(
            instance_type=pool.type,
            priority=pool.priority,
            model_name_override=next(names) if pool.containers else None,
        )
        for pool in capacity.pools
    ]


def _serverless(capacity: Capacity) -> sagemaker.CfnEndpointConfig.ServerlessConfigProperty | None:
    if not isinstance(capacity, Serverless):
        return None
    return Config.ServerlessConfigProperty(
        memory_size_in_mb=capacity.memory_size_in_mb,
        max_concurrency=capacity.max_concurrency,
        provisioned_concurrency=capacity.provisioned_concurrency,
    )


def _reservation(arn: str | None) -> sagemaker.CfnEndpointConfig.CapacityReservationConfigProperty | None:
    if arn is None:
        return None
    return Config.CapacityReservationConfigProperty(
        capacity_reservation_preference="capacity-reservations-only", ml_reservation_arn=arn
    )
