"""ServingStack: one model, from its weights to its gate. What may roll back; nothing here is worth keeping.

Not the image, the buckets and the role: they are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aws_cdk import CfnOutput, Stack, Tags
from constructs import Construct

from heavylift.deploy.stacks import serving as stack_of
from heavylift.deploy.variants import Other, config_plans
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.spec.variants import VariantSpec
from heavylift_cdk import BenchmarkGate, Container, LiveConfig, ModelEndpoint, RuntimeImage, Variant, WeightsReady
from heavylift_cdk.bounds import refuse
from heavylift_cdk.planned import container_of, variant_of
from stacks import hosting, jobs
from stacks.foundation import FoundationStack

if TYPE_CHECKING:
    from heavylift_cdk import InferenceComponent


class ServingStack(Stack):
    """WeightsReady → Model → EndpointConfig → Endpoint → BenchmarkGate; the gate's failure rolls the endpoint back.

    `model_file` is what the user types after `heavylift weights push`. Of `spec` are the sections that a plan leaves as
    they are: hosting, scaling, roll-out, monitoring; without it, the plan's one variant is all. `others` are its
    variants and its shadow by their names, `images` theirs where the file's `image` is not. `options` are Stack's.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        plan: Plan,
        model_file: str,
        foundation: FoundationStack,
        image: RuntimeImage,
        spec: ModelSpec | None = None,
        others: Mapping[str, Other] = MappingProxyType({}),
        images: Mapping[str, RuntimeImage] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        super().__init__(scope, id, stack_name=stack_of(plan.name), description=f"Heavylift: {plan.name}", **options)
        self.components: dict[str, InferenceComponent] = {}
        endpoint = self._endpoint(plan, spec, foundation, image, others, images)
        if spec is None or spec.multi_model is None:  # archives are the user's, and come and go
            ready = WeightsReady(
                self,
                "WeightsReady",
                plans=list(config_plans(plan, others).values()),
                model_file=model_file,
                weights=foundation.weights,
                log_group=foundation.log_group,
            )
            brought = None if spec is None else jobs.staged(self, spec, plan, foundation)
            if brought is not None:
                ready.node.add_dependency(brought)
            made = jobs.prepared(self, config_plans(plan, others).values(), foundation, image, after=ready)
            endpoint.node.add_dependency(ready, *made)
        if plan.benchmark is not None:
            gate = BenchmarkGate(
                self,
                "BenchmarkGate",
                plan=plan,
                endpoint=endpoint,
                reports=foundation.reports,
                log_group=foundation.log_group,
                component=self.components.get(plan.benchmark.inference_component or ""),
            )
            if self.components:
                gate.node.add_dependency(*self.components.values())
        else:  # the gate looks at the live configuration itself
            LiveConfig(self, "LiveConfig", endpoint=endpoint, log_group=foundation.log_group)

        CfnOutput(self, "EndpointName", value=endpoint.name)
        CfnOutput(self, "EndpointConfigName", value=endpoint.config_name)
        tags = Tags.of(self)
        for key, value in {"heavylift:model": plan.name, **plan.tags}.items():
            tags.add(key, value)

    def _endpoint(
        self,
        plan: Plan,
        spec: ModelSpec | None,
        foundation: FoundationStack,
        image: RuntimeImage,
        others: Mapping[str, Other],
        images: Mapping[str, RuntimeImage],
    ) -> ModelEndpoint:
        common: dict[str, Any] = {
            "endpoint_name": plan.name,
            "role": foundation.role,
            "network_isolation": plan.enable_network_isolation,
        }
        if spec is None:
            only = variant_of(plan, container_of(plan, foundation.weights, image))
            return ModelEndpoint(self, "Endpoint", variants=[only], **common)
        refuse(hosting.faults(spec, plan))
        secrets = hosting.secrets(self, spec)

        def container(spec: ModelSpec, plan: Plan, image: RuntimeImage) -> Container:
            made = hosting.container(self, spec, plan, foundation.weights, image)
            access = "platform" if spec.network is None else spec.network.image_access
            return replace(made, secrets=secrets, image_access=access)

        def variant(given: VariantSpec) -> Variant:
            other = others[given.name]
            own = container(other.spec, other.plan, images.get(given.name, image))
            dressed = hosting.dressed(variant_of(other.plan, own), other.spec)
            return replace(dressed, name=given.name, weight=given.weight)

        own = container(spec, plan, image)
        endpoint = ModelEndpoint(
            self,
            "Endpoint",
            variants=[variant(each) for each in spec.variants or ()] or [hosting.dressed(variant_of(plan, own), spec)],
            shadow=None if spec.shadow is None else variant(spec.shadow),
            network=hosting.network(spec),
            volume_key=hosting.volume_key(self, spec),
            data_capture=hosting.data_capture(self, spec, foundation.reports),
            asynchronous=hosting.asynchronous(self, spec, foundation.reports),
            metrics=hosting.metrics(spec),
            rollout=hosting.rollout(spec.rollout),
            **common,
        )
        self._watch(plan, spec, endpoint)
        if spec.scaling is not None or spec.inference_components is not None:
            from stacks import scaled  # here and below: parts of the CDK that few models need, and that take time

            scaled.scale_variants(self, spec, plan, endpoint)
            self.components = scaled.add_components(self, spec, plan, endpoint, own)
        return endpoint

    def _watch(self, plan: Plan, spec: ModelSpec, endpoint: ModelEndpoint) -> None:
        """Alarms, which take an update back where the file says so, and the dashboard."""
        limits, alarms = hosting.limits(spec, plan), None
        if limits:
            from heavylift_cdk import Alarms

            alarms = Alarms(self, "Alarms", endpoint=endpoint, limits=limits, notify=hosting.topics(self, spec))
            if spec.rollout is not None and spec.rollout.auto_rollback:
                endpoint.roll_back_on(*alarms.names)
        if spec.monitoring is not None and spec.monitoring.dashboard:
            from heavylift_cdk import Dashboard

            price = plan.instance.price
            Dashboard(
                self,
                "Dashboard",
                endpoint=endpoint,
                price_usd_per_hour=None if price is None else price.usd_per_hour,
                alarms=alarms,
            )
