"""A model file's hosting, roll-out and monitoring, in the constructs' words. Not the plan, which answers `auto`.

Each function reads one section of the file and gives what a construct takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.spec.monitoring import Alarm, CostAlarm, ErrorAlarm, LatencyAlarm, UtilizationAlarm
from heavylift.spec.rollout import AllAtOnce, Canary, Linear
from heavylift.spec.rollout import Rollout as RolloutSpec
from heavylift_cdk import (
    Asynchronous,
    Container,
    DataCapture,
    Limit,
    ManagedInstances,
    Metrics,
    ModelData,
    Network,
    Pool,
    Pools,
    Rollout,
    Routing,
    RuntimeImage,
    Variant,
    compatibility,
)
from heavylift_cdk.planned import container_of, many_models

if TYPE_CHECKING:
    from aws_cdk import aws_secretsmanager as secretsmanager
    from aws_cdk import aws_sns as sns


def faults(spec: ModelSpec, plan: Plan) -> Iterator[str]:
    """What the file asks for and cannot be built."""
    alarms = () if spec.monitoring is None else spec.monitoring.alarms
    if plan.instance.price is None and any(each.metric == "cost" for each in alarms):
        yield f"{plan.name}: no price of {plan.instance.type} is known, so there is no alarm on 'cost'"


def dressed(variant: Variant, spec: ModelSpec) -> Variant:
    """The plan's variant, with what the file says of its machines."""
    reservation, routing, managed = spec.capacity_reservation, spec.routing, spec.managed_instances
    made = replace(
        variant,
        capacity_reservation_arn=None if reservation is None else reservation.arn,
        enable_ssm_access=True if spec.enable_ssm_access else None,
        routing=None
        if routing is None
        else Routing(routing.strategy, routing.prefix_length, routing.concurrency_threshold),
    )
    if spec.instance_pools is not None:
        pools = tuple(Pool(each.instance_type, each.priority) for each in spec.instance_pools)
        timeout = spec.variant_instance_provision_timeout_in_seconds
        made = replace(made, capacity=Pools(pools, spec.initial_instance_count, timeout))
    if spec.inference_ami_version != "auto":
        made = replace(made, inference_ami_version=spec.inference_ami_version)
    elif spec.image is not None and made.containers[0].image.cuda is not None:
        ami = compatibility.ami_for(made.containers[0].image.cuda, made.capacity.types[0])
        made = replace(made, inference_ami_version=ami)
    if spec.inference_components is None:
        return made
    scale_in = None if managed is None else managed.scale_in
    return replace(
        made,
        containers=(),
        managed_instances=None
        if managed is None
        else ManagedInstances(
            managed.min,
            managed.max,
            None if scale_in is None else scale_in.strategy,
            None if scale_in is None else scale_in.maximum_step_size,
            None if scale_in is None else scale_in.cooldown_in_minutes,
        ),
    )


def container(scope: Construct, spec: ModelSpec, plan: Plan, weights: s3.IBucket, image: RuntimeImage) -> Container:
    """Of the plan's one model, or of the many below a prefix."""
    if spec.multi_model is None:
        return container_of(plan, weights, image)
    bucket, prefix = found(scope, "Models", spec.multi_model.prefix)
    return many_models(plan, ModelData.from_archives(bucket, prefix), image, cache=spec.multi_model.cache)


def network(spec: ModelSpec) -> Network | None:
    """The VPC."""
    if spec.network is None:
        return None
    return Network.from_ids(spec.network.subnets, spec.network.security_groups)


def secrets(scope: Construct, spec: ModelSpec) -> dict[str, secretsmanager.ISecret]:
    """Variables whose values the container looks up; none of them is read here."""
    if not spec.secrets:
        return {}
    from aws_cdk import aws_secretsmanager as secretsmanager  # its import takes time, and few models have secrets

    home = Construct(scope, "Secrets")
    read = secretsmanager.Secret.from_secret_complete_arn
    return {name: read(home, name, arn) for name, arn in sorted(spec.secrets.items())}


def volume_key(scope: Construct, spec: ModelSpec) -> kms.IKey | None:
    """Of the instances' volumes."""
    return None if spec.kms_key is None else kms.Key.from_key_arn(scope, "VolumeKey", spec.kms_key)


def data_capture(scope: Construct, spec: ModelSpec, reports: s3.IBucket) -> DataCapture | None:
    """Requests and replies: by default in the reports' bucket, beside the model's reports."""
    asked = None if spec.monitoring is None else spec.monitoring.data_capture
    if asked is None:
        return None
    bucket, prefix = place(scope, "Captures", asked.destination, asked.kms_key, reports, f"captures/{spec.name}/")
    return DataCapture(bucket, prefix, asked.sampling_percentage, asked.capture)


def metrics(spec: ModelSpec) -> Metrics | None:
    """What SageMaker publishes beyond its usual metrics."""
    if spec.monitoring is None:
        return None
    asked = spec.monitoring.metrics
    return Metrics(asked.enhanced, asked.detailed_observability, asked.publish_frequency_in_seconds)


def asynchronous(scope: Construct, spec: ModelSpec, reports: s3.IBucket) -> Asynchronous | None:
    """Requests by S3: by default their results are in the reports' bucket, and failures below the results."""
    asked = spec.async_inference
    if asked is None:
        return None
    bucket, prefix = place(scope, "Results", asked.output, asked.kms_key, reports, f"async/{spec.name}/")
    failure = f"{prefix}failed/"
    if asked.failure is not None:
        failure = asked.failure.removeprefix("s3://").partition("/")[2]
    return Asynchronous(
        bucket,
        prefix,
        failure,
        asked.max_concurrent_invocations_per_instance,
        None if asked.success_topic is None else _topic(scope, "SuccessTopic", asked.success_topic),
        None if asked.error_topic is None else _topic(scope, "ErrorTopic", asked.error_topic),
        asked.include_response_in,
    )


def rollout(asked: RolloutSpec | None) -> Rollout | None:
    """How an update reaches the traffic; its own alarms, not the file's."""
    if asked is None:
        return None
    alarms, timeout, retain = asked.alarms, asked.max_execution_timeout_in_seconds, asked.retain_instance_counts
    if isinstance(asked, AllAtOnce | Canary | Linear):
        ending = asked.termination_wait_in_seconds
        if isinstance(asked, AllAtOnce):
            return Rollout.all_at_once(
                wait=asked.wait_in_seconds, termination_wait=ending, alarms=alarms, timeout=timeout, retain=retain
            )
        make, size = (
            (Rollout.canary, asked.canary_size) if isinstance(asked, Canary) else (Rollout.linear, asked.step_size)
        )
        return make(
            size, wait=asked.wait_in_seconds, termination_wait=ending, alarms=alarms, timeout=timeout, retain=retain
        )
    return Rollout.rolling(
        asked.batch_size,
        wait=asked.wait_in_seconds,
        rollback_size=asked.rollback_batch_size,
        alarms=alarms,
        timeout=timeout,
        retain=retain,
    )


def limits(spec: ModelSpec, plan: Plan) -> list[Limit]:
    """The alarms of `monitoring`."""
    asked = () if spec.monitoring is None else spec.monitoring.alarms
    return [replace(_limit(each, plan), for_minutes=each.for_minutes, no_data=each.no_data) for each in asked]


def _limit(asked: Alarm, plan: Plan) -> Limit:
    if isinstance(asked, LatencyAlarm):
        make = Limit.latency if asked.metric == "latency" else Limit.overhead
        return make(max_ms=asked.max_ms, percentile=asked.percentile)
    if isinstance(asked, ErrorAlarm):
        return Limit.errors("4xx" if asked.metric == "errors_4xx" else "5xx", max_share=asked.max)
    if isinstance(asked, UtilizationAlarm):
        return Limit.utilization(asked.metric, max_percent=asked.max_percent)
    if isinstance(asked, CostAlarm):
        assert plan.instance.price is not None, "refused where a price is not known"
        return Limit.cost(max_usd_per_hour=asked.max_usd_per_hour, price_usd_per_hour=plan.instance.price.usd_per_hour)
    return Limit.backlog(most=asked.max)


def topics(scope: Construct, spec: ModelSpec) -> list[sns.ITopic]:
    """Who is told of an alarm."""
    given = () if spec.monitoring is None else spec.monitoring.notify
    return [_topic(scope, f"Notify{number}", arn) for number, arn in enumerate(given)]


def place(
    scope: Construct, id: str, uri: str | None, key: str | None, default: s3.IBucket, prefix: str
) -> tuple[s3.IBucket, str]:
    """A bucket and a prefix: those of `uri`, under `key`, else the default's."""
    return (default, prefix) if uri is None else found(scope, id, uri, key)


def found(scope: Construct, id: str, uri: str, key: str | None = None) -> tuple[s3.IBucket, str]:
    """A bucket that is not of this app, and what is below it."""
    name, _, below = uri.removeprefix("s3://").partition("/")
    known = None if key is None else kms.Key.from_key_arn(scope, f"{id}Key", key)
    return s3.Bucket.from_bucket_attributes(scope, f"{id}Bucket", bucket_name=name, encryption_key=known), below


def _topic(scope: Construct, id: str, arn: str) -> sns.ITopic:
    from aws_cdk import aws_sns as sns  # its import takes time, and few models have topics

    return sns.Topic.from_topic_arn(scope, id, arn)
