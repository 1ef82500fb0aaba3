"""InferenceComponent: copies of a model that share an endpoint's instances, and adapters that such a component serves.

Not the instances: those are the endpoint's variant, which has no containers of its own. Limits:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_InferenceComponentSpecification.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from aws_cdk import Fn
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from heavylift.plan.facts import instances
from heavylift_cdk.access import Access
from heavylift_cdk.bounds import between, named, refuse
from heavylift_cdk.container import Container
from heavylift_cdk.model_data import ModelData
from heavylift_cdk.model_endpoint import ModelEndpoint
from heavylift_cdk.rollout import Rollout
from heavylift_cdk.served_model import served_model

Component = sagemaker.CfnInferenceComponent


@dataclass(frozen=True)
class Resources:
    """What one copy takes of an instance; memory in MiB."""

    min_memory_in_mb: int
    accelerators: int | None = None
    max_memory_in_mb: int | None = None
    cpus: float | None = None

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        yield from between("min_memory_in_mb", self.min_memory_in_mb, 128, 1 << 26)
        yield from between("max_memory_in_mb", self.max_memory_in_mb, self.min_memory_in_mb, 1 << 26)
        yield from between("accelerators", self.accelerators, 1, 1_000)
        yield from between("cpus", self.cpus, 0.25, 10_000)

    def room_faults(self, types: tuple[str, ...]) -> Iterator[str]:
        """A copy that fits no instance of the variant, as far as the tables know its types."""
        for type_ in types:
            fact = instances().get(type_)
            if fact is None:
                continue
            if self.accelerators is not None and self.accelerators > fact.devices:
                yield f"'accelerators' must be at most {fact.devices} on {type_}: got {self.accelerators}"
            if self.min_memory_in_mb > fact.memory_gib * 1024:
                mebibytes = int(fact.memory_gib * 1024)
                yield f"'min_memory_in_mb' must be below the {mebibytes} of {type_}: got {self.min_memory_in_mb}"
            if fact.accelerator is not None and self.accelerators is None:
                yield f"'accelerators' must be given on {type_}, which has {fact.devices}"

    def render(self) -> sagemaker.CfnInferenceComponent.InferenceComponentComputeResourceRequirementsProperty:
        """The specification's property."""
        return Component.InferenceComponentComputeResourceRequirementsProperty(
            min_memory_required_in_mb=self.min_memory_in_mb,
            max_memory_required_in_mb=self.max_memory_in_mb,
            number_of_accelerator_devices_required=self.accelerators,
            number_of_cpu_cores_required=self.cpus,
        )


@dataclass(frozen=True)
class Placement:
    """How copies lie on the instances; zones are balanced as well as the capacity allows, within `max_imbalance`."""

    strategy: Literal["spread", "binpack"] = "spread"
    max_imbalance: int | None = None

    def render(self) -> sagemaker.CfnInferenceComponent.InferenceComponentSchedulingConfigProperty:
        """The specification's property."""
        return Component.InferenceComponentSchedulingConfigProperty(
            placement_strategy=self.strategy.upper(),
            availability_zone_balance=Component.InferenceComponentAvailabilityZoneBalanceProperty(
                enforcement_mode="PERMISSIVE", max_imbalance=self.max_imbalance
            ),
        )


class InferenceComponent(Construct):
    """`copies` of a container on the instances of one of `endpoint`'s variants: the first where None.

    It refers to the endpoint, so CloudFormation makes it after, and deletes it before. Raises InputError.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint: ModelEndpoint,
        container: Container,
        resources: Resources,
        variant: str | None = None,
        component_name: str | None = None,
        copies: int = 1,
        cache: bool = False,
        placement: Placement | None = None,
        model_data_download_timeout_in_seconds: int | None = None,
        container_startup_health_check_timeout_in_seconds: int | None = None,
        rollout: Rollout | None = None,
    ) -> None:
        super().__init__(scope, id)
        host = endpoint.variants[0] if variant is None else next(v for v in endpoint.variants if v.name == variant)
        download, startup = (
            model_data_download_timeout_in_seconds,
            container_startup_health_check_timeout_in_seconds,
        )

        def faults() -> Iterator[str]:
            yield from named("component_name", component_name)
            yield from container.faults()
            yield from resources.faults()
            yield from resources.room_faults(host.capacity.types)
            yield from between("copies", copies, 1, 1000)  # SageMaker takes no 0 when it is made
            yield from between("model_data_download_timeout_in_seconds", download, 60, 3600)
            yield from between("container_startup_health_check_timeout_in_seconds", startup, 60, 3600)
            if host.containers:
                yield f"variant {host.name} has containers of its own: inference components need one without"
            if rollout is not None:
                yield from rollout.faults()
                if rollout.strategy != "rolling":
                    yield f"copies are updated by a rolling roll-out only: got {rollout.strategy}"

        refuse(faults())
        self.endpoint, self.variant = endpoint, host
        access = Access(self, endpoint.role)
        model = served_model(
            self,
            "Model",
            containers=[container],
            role=endpoint.role,
            access=access,
            network=endpoint.network,
            isolated=endpoint.network_isolation,
            pulls_assets=endpoint.pulls_assets,
        )
        self.model_name = model.attr_model_name
        times = None
        if (download, startup) != (None, None):
            times = Component.InferenceComponentStartupParametersProperty(
                model_data_download_timeout_in_seconds=download,
                container_startup_health_check_timeout_in_seconds=startup,
            )
        self.component = Component(
            self,
            "Component",
            endpoint_name=endpoint.name,
            variant_name=host.name,
            inference_component_name=component_name,
            runtime_config=Component.InferenceComponentRuntimeConfigProperty(copy_count=copies),
            specification=Component.InferenceComponentSpecificationProperty(
                model_name=model.attr_model_name,
                compute_resource_requirements=resources.render(),
                startup_parameters=times,
                data_cache_config=Component.InferenceComponentDataCacheConfigProperty(enable_caching=cache),
                scheduling_config=None if placement is None else placement.render(),
            ),
            deployment_config=None if rollout is None else rollout.render_copies(),
        )

    @property
    def name(self) -> str:
        """The component's name, out of its ARN: what InvokeEndpoint's InferenceComponentName takes."""
        return Fn.select(1, Fn.split("/", self.arn))

    @property
    def arn(self) -> str:
        """The component's ARN."""
        return self.component.attr_inference_component_arn

    def add_adapter(self, id: str, *, data: ModelData, component_name: str | None = None) -> Component:
        """A LoRA adapter: a .tar.gz that this component's copies load. Raises InputError."""

        def faults() -> Iterator[str]:
            yield from named("component_name", component_name)
            if data.kind != "archive":
                yield "an adapter is one .tar.gz: make its data with ModelData.from_archive"

        refuse(faults())
        place = Construct(self, id)
        access = Access(place, self.endpoint.role)
        access.add([] if data.granted else data.statements(), data.objects())
        adapter = Component(
            place,
            "Component",
            endpoint_name=self.endpoint.name,
            inference_component_name=component_name,
            specification=Component.InferenceComponentSpecificationProperty(
                base_inference_component_name=self.name,
                container=Component.InferenceComponentContainerSpecificationProperty(artifact_url=data.uri),
            ),
        )
        access.before(adapter)
        return adapter

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` invoke this component through its endpoint, streaming or not."""
        return iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"],
            resource_arns=[self.endpoint.arn, self.arn],
        )

    def metric(self, name: str, **options: Any) -> cloudwatch.Metric:
        """One of SageMaker's metrics of this component; `options` are aws_cloudwatch.Metric's."""
        dimensions = {"InferenceComponentName": self.name}
        return cloudwatch.Metric(namespace="AWS/SageMaker", metric_name=name, dimensions_map=dimensions, **options)

    def metric_no_capacity(self) -> cloudwatch.Metric:
        """Requests that found no copy, a count: what wakes a component that has scaled to zero."""
        return self.metric("NoCapacityInvocationFailures", statistic=cloudwatch.Stats.MAXIMUM)
