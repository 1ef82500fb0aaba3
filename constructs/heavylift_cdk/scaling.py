"""Scaling: how many instances, or copies of an inference component, run: by load, by clock, by forecast, down to none.

Not the instances below copies: those are the variant's ManagedInstances. Sources: Application Auto Scaling's API
reference; SageMaker developer guide, "Automatic scaling", "Scale an endpoint to zero instances", "Autoscale an
asynchronous endpoint".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from aws_cdk import Duration
from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from heavylift_cdk.bounds import between, refuse
from heavylift_cdk.capacity import Serverless
from heavylift_cdk.inference_component import InferenceComponent
from heavylift_cdk.model_endpoint import ModelEndpoint
from heavylift_cdk.predictive import Predictive
from heavylift_cdk.variant import Variant

Policy, Target = autoscaling.CfnScalingPolicy, autoscaling.CfnScalableTarget
Metric = Literal["concurrency", "invocations", "backlog"]

PREDEFINED = {
    ("instances", "concurrency"): "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    ("instances", "invocations"): "SageMakerVariantInvocationsPerInstance",
    ("copies", "concurrency"): "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
    ("copies", "invocations"): "SageMakerInferenceComponentInvocationsPerCopy",
}
WAKE_COOLDOWN = 60  # seconds; an instance takes minutes, and a second one is not wanted meanwhile


@dataclass(frozen=True)
class Schedule:
    """New bounds at given times: cron(…), rate(…) or at(…)."""

    name: str
    when: str
    minimum: int | None = None
    maximum: int | None = None
    timezone: str = "UTC"


@dataclass(frozen=True)
class Tracking:
    """`target` of the metric for each instance or copy: requests at a time, a minute, or waiting. Seconds."""

    target: float
    metric: Metric = "concurrency"
    scale_in_cooldown: int = 300
    scale_out_cooldown: int = 60
    scale_in: bool = True


class Scaling(Construct):
    """Make one with `of_variant` or `of_component`; from zero, it comes back by itself. Raises InputError."""

    @classmethod
    def of_variant(
        cls,
        scope: Construct,
        id: str,
        *,
        endpoint: ModelEndpoint,
        minimum: int,
        maximum: int,
        tracking: Tracking,
        variant: str | None = None,
        schedules: Sequence[Schedule] = (),
        predictive: Predictive | None = None,
    ) -> Scaling:
        """Instances of a variant: the first where None. Zero only for asynchronous endpoints."""
        chosen = endpoint.variants[0] if variant is None else next(v for v in endpoint.variants if v.name == variant)
        asynchronous = endpoint.asynchronous is not None
        least = _least(minimum, schedules)
        refuse(_variant_faults(chosen, asynchronous, minimum, maximum, tracking, least))
        refuse(chain(_faults(minimum, maximum, tracking, schedules), () if predictive is None else predictive.faults()))
        scaling = cls(scope, id)
        target = scaling._target(
            "sagemaker:variant:DesiredInstanceCount",
            f"endpoint/{endpoint.name}/variant/{chosen.name}",
            minimum,
            maximum,
            schedules,
        )
        if tracking.metric == "backlog":
            scaling._track(target, tracking, Policy.CustomizedMetricSpecificationProperty(
                namespace="AWS/SageMaker", metric_name="ApproximateBacklogSizePerInstance", statistic="Average",
                dimensions=[Policy.MetricDimensionProperty(name="EndpointName", value=endpoint.stable_name)],
            ))  # fmt: skip
        else:
            scaling._track(target, tracking, PREDEFINED["instances", tracking.metric])
        if least == 0:
            waiting = endpoint.metric_of_endpoint("HasBacklogWithoutCapacity", statistic="Maximum")
            scaling._wake(target, waiting, Duration.minutes(1))
        if predictive is not None:
            scaling._predict(target, predictive, endpoint, chosen)
        return scaling

    @classmethod
    def of_component(
        cls,
        scope: Construct,
        id: str,
        *,
        component: InferenceComponent,
        minimum: int,
        maximum: int,
        tracking: Tracking,
        schedules: Sequence[Schedule] = (),
    ) -> Scaling:
        """Copies of an inference component. Zero copies, and then zero instances, where the variant's ManagedInstances
        allow it."""
        least = _least(minimum, schedules)
        refuse(_component_faults(component, least, tracking))
        refuse(_faults(minimum, maximum, tracking, schedules))
        scaling = cls(scope, id)
        target = scaling._target(
            "sagemaker:inference-component:DesiredCopyCount",
            f"inference-component/{component.name}",
            minimum,
            maximum,
            schedules,
        )
        scaling._track(target, tracking, PREDEFINED["copies", tracking.metric])
        if least == 0:
            # A high-resolution alarm: every second of it is a client's refused request.
            scaling._wake(target, component.metric_no_capacity(), Duration.seconds(30))
        return scaling

    def _target(
        self, dimension: str, resource: str, minimum: int, maximum: int, schedules: Sequence[Schedule]
    ) -> autoscaling.CfnScalableTarget:
        return Target(
            self,
            "Target",
            service_namespace="sagemaker",
            scalable_dimension=dimension,
            resource_id=resource,
            min_capacity=minimum,
            max_capacity=maximum,
            scheduled_actions=[
                Target.ScheduledActionProperty(
                    scheduled_action_name=each.name,
                    schedule=each.when,
                    timezone=each.timezone,
                    scalable_target_action=Target.ScalableTargetActionProperty(
                        min_capacity=each.minimum, max_capacity=each.maximum
                    ),
                )
                for each in schedules
            ]
            or None,
        )

    def _track(
        self,
        target: autoscaling.CfnScalableTarget,
        tracking: Tracking,
        metric: str | autoscaling.CfnScalingPolicy.CustomizedMetricSpecificationProperty,
    ) -> None:
        predefined = None
        if isinstance(metric, str):
            predefined = Policy.PredefinedMetricSpecificationProperty(predefined_metric_type=metric)
        Policy(
            self,
            "Tracking",
            policy_name="tracking",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=Policy.TargetTrackingScalingPolicyConfigurationProperty(
                target_value=tracking.target,
                predefined_metric_specification=predefined,
                customized_metric_specification=None if isinstance(metric, str) else metric,
                scale_in_cooldown=tracking.scale_in_cooldown,
                scale_out_cooldown=tracking.scale_out_cooldown,
                disable_scale_in=not tracking.scale_in,
            ),
        )

    def _wake(self, target: autoscaling.CfnScalableTarget, waiting: cloudwatch.Metric, period: Duration) -> None:
        """One instance or copy, as soon as something waits: with none, no metric of each is there to track."""
        step = Policy(
            self,
            "Wake",
            policy_name="wake",
            policy_type="StepScaling",
            scaling_target_id=target.ref,
            step_scaling_policy_configuration=Policy.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                metric_aggregation_type="Maximum",
                cooldown=WAKE_COOLDOWN,
                step_adjustments=[Policy.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)],
            ),
        )
        alarm = cloudwatch.Alarm(
            self,
            "Waiting",
            metric=waiting.with_(period=period),
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description="a request found no capacity: wakes what has scaled to zero",
        )
        plain = alarm.node.default_child
        assert isinstance(plain, cloudwatch.CfnAlarm)
        plain.alarm_actions = [step.ref]

    def _predict(
        self, target: autoscaling.CfnScalableTarget, predictive: Predictive, endpoint: ModelEndpoint, variant: Variant
    ) -> None:
        Policy(
            self,
            "Predictive",
            policy_name="predictive",
            policy_type="PredictiveScaling",
            scaling_target_id=target.ref,
            predictive_scaling_policy_configuration=predictive.render(endpoint.stable_name, variant.name),
        )


def _least(minimum: int, schedules: Sequence[Schedule]) -> int:
    """The fewest that it ever comes to: a schedule may allow zero, too."""
    return min([minimum, *(each.minimum for each in schedules if each.minimum is not None)])


def _faults(minimum: int, maximum: int, tracking: Tracking, schedules: Sequence[Schedule]) -> Iterator[str]:
    yield from between("maximum", maximum, 1, 1_000_000)
    yield from between("minimum", minimum, 0, maximum)
    yield from between("scale_in_cooldown", tracking.scale_in_cooldown, 0, 86_400)
    yield from between("scale_out_cooldown", tracking.scale_out_cooldown, 0, 86_400)
    if tracking.target <= 0:
        yield f"'target' must be more than 0: got {tracking.target:g}"
    most = max([maximum, *(each.maximum for each in schedules if each.maximum is not None)])
    for each in schedules:
        if each.maximum is None and each.minimum is not None and each.minimum > most:
            yield f"schedule {each.name}: 'minimum' must be at most {most}, which nothing raises: got {each.minimum}"
        if each.minimum is None and each.maximum is not None and each.maximum < _least(minimum, schedules):
            yield f"schedule {each.name}: 'maximum' must be at least {_least(minimum, schedules)}: got {each.maximum}"
        if each.minimum is None and each.maximum is None:
            yield f"schedule {each.name} must change 'minimum' or 'maximum'"
        elif each.minimum is not None and each.maximum is not None and each.minimum > each.maximum:
            yield f"schedule {each.name}: 'minimum' must be at most 'maximum': got {each.minimum} and {each.maximum}"


def _variant_faults(
    variant: Variant, asynchronous: bool, minimum: int, maximum: int, tracking: Tracking, least: int
) -> Iterator[str]:
    capacity = variant.capacity
    if isinstance(capacity, Serverless):
        yield f"variant {variant.name} is serverless: SageMaker scales it by itself"
        return
    if not variant.containers:
        yield f"variant {variant.name} hosts inference components: scale their copies with Scaling.of_component"
    yield from (f"SageMaker does not scale burstable types: got {each}" for each in capacity.types if ".t" in each[2:5])
    if least == 0 and not asynchronous:
        yield "'minimum' 0 needs an asynchronous endpoint, or inference components: a request would find no instance"
    if not minimum <= capacity.count <= maximum:
        yield f"the first count must lie from 'minimum' to 'maximum', {minimum} to {maximum}: got {capacity.count}"
    if asynchronous and tracking.metric != "backlog":
        yield f"an asynchronous endpoint has no metric '{tracking.metric}': track its backlog"
    if not asynchronous and tracking.metric == "backlog":
        yield "a backlog is of asynchronous endpoints: track concurrency"


def _component_faults(component: InferenceComponent, least: int, tracking: Tracking) -> Iterator[str]:
    if tracking.metric == "backlog":
        yield "a backlog is of asynchronous endpoints: track concurrency"
    if component.variant.managed_instances is None and least == 0:
        yield (
            f"'minimum' 0 needs managed instances: variant {component.variant.name} would keep all its own, "
            f"which cost as much idle"
        )
