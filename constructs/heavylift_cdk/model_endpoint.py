"""ModelEndpoint: SageMaker's Models, EndpointConfig and Endpoint, with the rights that they need and no others.

Not the weights' bucket, nor scaling, alarms and the gate: constructs of their own. `of_plan` says one model as a plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from aws_cdk import Annotations, ArnFormat, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from heavylift.plan.hosted import not_hosted
from heavylift.plan.plan import Plan
from heavylift_cdk.access import Access
from heavylift_cdk.bounds import between, named, refuse
from heavylift_cdk.capacity import Pools, Serverless
from heavylift_cdk.checks import acknowledge_objects
from heavylift_cdk.execution_role import ExecutionRole
from heavylift_cdk.metrics import EndpointMetrics
from heavylift_cdk.model_data import ModelData
from heavylift_cdk.network import Network
from heavylift_cdk.planned import container_of, read_besides, variant_of
from heavylift_cdk.recording import Asynchronous, DataCapture, Metrics
from heavylift_cdk.rollout import Rollout
from heavylift_cdk.runtime_image import RuntimeImage
from heavylift_cdk.served_model import served_model
from heavylift_cdk.values import is_token
from heavylift_cdk.variant import ONLY, Variant

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_kms as kms
    from aws_cdk import aws_s3 as s3


class ModelEndpoint(Construct, EndpointMetrics):
    """Variants behind one endpoint.

    Every property of Model and EndpointConfig is create-only in CloudFormation, so these have no physical names and are
    replaced by any change; the endpoint keeps its name and is updated in place, as `rollout` says.

    Instance types that the stack's region is not known to host are a warning, `heavylift:region`.

    `role` is made where none is given; a given one gets what the containers need in a policy of this construct. Raises
    InputError with everything that SageMaker would refuse.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        variants: Sequence[Variant],
        shadow: Variant | None = None,
        endpoint_name: str | None = None,
        role: iam.IRole | None = None,
        network: Network | None = None,
        network_isolation: bool = False,
        volume_key: kms.IKey | None = None,
        data_capture: DataCapture | None = None,
        asynchronous: Asynchronous | None = None,
        metrics: Metrics | None = None,
        rollout: Rollout | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.variants, self.shadow = tuple(variants), shadow
        self.rollout, self.asynchronous = rollout, asynchronous
        every = self.variants if shadow is None else (*self.variants, shadow)
        parts = [part for part in (network, data_capture, asynchronous, metrics) if part is not None]
        refuse(_faults(every, shadow, endpoint_name, parts, rollout))
        self.role = ExecutionRole(self, "Role") if role is None else role
        self.network, self.network_isolation = network, network_isolation
        self.pulls_assets = role is not None  # as the foundation's does
        access = Access(self, self.role)
        if network is not None:
            access.attach(network)
        for written in (data_capture, asynchronous):
            if written is not None:
                access.add(written.statements(), written.objects())
        rendered = [variant.render(self._models(variant, access)) for variant in every]
        components = not all(variant.containers for variant in every)
        self.config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            production_variants=rendered[: len(self.variants)],
            shadow_production_variants=rendered[len(self.variants) :] or None,
            kms_key_id=None if volume_key is None else volume_key.key_arn,
            data_capture_config=None if data_capture is None else data_capture.render(),
            async_inference_config=None if asynchronous is None else asynchronous.render(),
            metrics_config=None if metrics is None else metrics.render(),
            # Those of the Models; an endpoint of inference components has none when it is made.
            execution_role_arn=self.role.role_arn if components else None,
            enable_network_isolation=network_isolation if components else None,
            vpc_config=None if network is None or not components else sagemaker.CfnEndpointConfig.VpcConfigProperty(
                subnets=list(network.subnets), security_group_ids=list(network.security_groups)
            ),
        )  # fmt: skip
        if components:
            access.before(self.config)
        config_name = self.config.attr_endpoint_config_name
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=endpoint_name,
            endpoint_config_name=config_name,
            deployment_config=None if rollout is None else rollout.render(),
            retain_all_variant_properties=None if rollout is None else rollout.retain or None,
            exclude_retained_variant_properties=None if rollout is None else rollout.not_retained(),
        )
        self.config_name = config_name
        self.name: str = self.endpoint.attr_endpoint_name
        """As CloudFormation returns it: a reference, so its user waits for the endpoint."""
        self.stable_name = self.name if endpoint_name is None else endpoint_name
        stack = Stack.of(self)
        self.arn: str = stack.format_arn(
            service="sagemaker",
            resource="endpoint",
            resource_name=self.stable_name,
            arn_format=ArnFormat.SLASH_RESOURCE_NAME,
        )
        """From a given name alone, so that a policy need not wait for the endpoint."""
        self._warn_of_region(stack.region, [type_ for variant in every for type_ in variant.capacity.types])

    @classmethod
    def of_plan(
        cls,
        scope: Construct,
        id: str,
        *,
        plan: Plan,
        weights: s3.IBucket,
        image: RuntimeImage,
        role: iam.IRole | None = None,
        **options: Any,
    ) -> ModelEndpoint:
        """The plan's one variant; `options` are the constructor's. A given role may read the weights already; one that
        is made may read this plan's."""
        variant = variant_of(plan, container_of(plan, weights, image, granted=role is not None))
        isolated = plan.enable_network_isolation
        made = cls(
            scope, id, variants=[variant], endpoint_name=plan.name, role=role, network_isolation=isolated, **options
        )
        for prefix in read_besides(plan) if role is None else ():
            data = ModelData.from_prefix(weights, prefix)
            data.grant_read(made.role)
            for bucket, keys in data.objects():
                acknowledge_objects(made.role, bucket, keys, "what is below it is one model, or one artifact")
        return made

    def roll_back_on(self, *alarms: str) -> None:
        """Take an update back when one of these alarms goes off, besides the roll-out's own; at most ten together.

        Alarms that are made after the endpoint name it by its given name, or each would wait for the other.
        """
        rollout = Rollout.all_at_once() if self.rollout is None else self.rollout
        self.rollout = replace(rollout, alarms=(*rollout.alarms, *alarms))
        refuse(between("alarms", len(self.rollout.alarms), 0, 10))
        self.endpoint.deployment_config = self.rollout.render()
        self.endpoint.retain_all_variant_properties = self.rollout.retain or None
        excluded = self.rollout.not_retained()
        self.endpoint.exclude_retained_variant_properties = None if excluded is None else [*excluded]

    def grant_invoke(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` invoke this endpoint, streaming or not."""
        return self._grant(grantee, "sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream")

    def grant_invoke_async(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` send asynchronous requests; the objects that they name are its own affair."""
        return self._grant(grantee, "sagemaker:InvokeEndpointAsync")

    def grant_describe(self, grantee: iam.IGrantable) -> iam.Grant:
        """Let `grantee` see the endpoint's status and configuration."""
        return self._grant(grantee, "sagemaker:DescribeEndpoint")

    def _grant(self, grantee: iam.IGrantable, *actions: str) -> iam.Grant:
        return iam.Grant.add_to_principal(grantee=grantee, actions=list(actions), resource_arns=[self.arn])

    def _warn_of_region(self, region: str, types: Sequence[str]) -> None:
        """A table of a date is no reason to refuse, as heavylift.plan.hosted says."""
        if is_token(region):
            return
        for sentence in filter(None, (not_hosted(type_, region) for type_ in dict.fromkeys(types))):
            Annotations.of(self).add_warning_v2("heavylift:region", sentence)

    def _models(self, variant: Variant, access: Access) -> tuple[str, ...]:
        """The names of the variant's own Model and of its pools'."""
        own = "" if variant.name == ONLY else variant.name
        sets = {f"Model{own}": variant.containers}
        if isinstance(variant.capacity, Pools):
            sets |= {f"Model{own}Pool{pool.priority}": pool.containers for pool in variant.capacity.pools}
        return tuple(
            served_model(
                self,
                id,
                containers=containers,
                role=self.role,
                access=access,
                network=self.network,
                isolated=self.network_isolation,
                pulls_assets=self.pulls_assets,
            ).attr_model_name
            for id, containers in sets.items()
            if containers
        )


class _Part(Protocol):
    def faults(self) -> Iterator[str]: ...


def _faults(
    every: Sequence[Variant],
    shadow: Variant | None,
    endpoint_name: str | None,
    parts: Sequence[_Part],
    rollout: Rollout | None,
) -> Iterator[str]:
    """What SageMaker would refuse of the whole."""
    yield from named("endpoint_name", endpoint_name)
    production = [variant for variant in every if variant is not shadow]
    yield from between("variants", len(production), 1, 10)
    names = [variant.name for variant in every]
    if len(set(names)) < len(names):
        yield f"variants must have names of their own: got {', '.join(names)}"
    if shadow is not None and len(production) != 1:
        yield f"a shadow variant goes with exactly one production variant: got {len(production)}"
    for part in (*every, *parts):
        yield from part.faults()
    if any(isinstance(part, Asynchronous) for part in parts):
        for variant in every:
            if isinstance(variant.capacity, Serverless) or not variant.containers:
                yield f"asynchronous requests need instances with a model of their own: variant {variant.name} has none"
    if any(not variant.containers and isinstance(variant.capacity, Serverless) for variant in every):
        yield "inference components need instances: a serverless variant has containers of its own"
    if rollout is not None:
        capacity = production[0].capacity if len(production) == 1 else None
        yield from rollout.faults(None if capacity is None or isinstance(capacity, Serverless) else capacity.count)
