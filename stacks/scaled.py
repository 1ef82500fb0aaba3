"""A model file's `scaling` and `inference_components`: what runs how often. Not the machines: hosting.py."""

from __future__ import annotations

from constructs import Construct

from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.spec.scaling import ScalingSpec
from heavylift.spec.variants import ComponentSpec
from heavylift_cdk import (
    Container,
    InferenceComponent,
    ModelData,
    ModelEndpoint,
    Placement,
    Predictive,
    Resources,
    Scaling,
    Schedule,
    Tracking,
)
from stacks.hosting import found

MEBIBYTE = 1 << 20
LEAST_MEMORY = 128  # MiB; API_InferenceComponentComputeResourceRequirements


def scale_variants(scope: Construct, spec: ModelSpec, plan: Plan, endpoint: ModelEndpoint) -> None:
    """Each production variant between the same bounds."""
    asked = spec.scaling
    if asked is None or spec.inference_components is not None:
        return
    for number, variant in enumerate(endpoint.variants):
        Scaling.of_variant(
            scope,
            f"Scaling{number or ''}",
            endpoint=endpoint,
            variant=variant.name,
            minimum=asked.min,
            maximum=asked.max,
            tracking=tracking(asked, plan, asynchronous=spec.async_inference is not None),
            schedules=schedules(asked),
            predictive=predictive(asked),
        )


def add_components(
    scope: Construct, spec: ModelSpec, plan: Plan, endpoint: ModelEndpoint, container: Container
) -> dict[str, InferenceComponent]:
    """The components by their names, with their adapters and what scales them."""
    times, made = plan.variant, dict[str, InferenceComponent]()
    for number, asked in enumerate(spec.inference_components or ()):
        component = InferenceComponent(
            scope,
            f"Component{number}",
            endpoint=endpoint,
            container=container,
            resources=_resources(asked, plan),
            component_name=asked.name,
            copies=asked.copies,
            cache=asked.cache,
            placement=Placement(asked.placement) if asked.balance_zones else None,
            model_data_download_timeout_in_seconds=times.model_data_download_timeout_in_seconds,
            container_startup_health_check_timeout_in_seconds=times.container_startup_health_check_timeout_in_seconds,
        )
        made[asked.name] = component
        for order, adapter in enumerate(asked.adapters):
            bucket, key = found(component, f"Adapter{order}", adapter.artifact)
            component.add_adapter(
                f"Adapter{order}", data=ModelData.from_archive(bucket, key), component_name=adapter.name
            )
        bounds = asked.scaling or spec.scaling
        if bounds is not None:
            Scaling.of_component(
                scope,
                f"Scaling{number}",
                component=component,
                minimum=bounds.min,
                maximum=bounds.max,
                tracking=tracking(bounds, plan, asynchronous=False),
                schedules=schedules(bounds),
            )
    return made


def tracking(asked: ScalingSpec, plan: Plan, *, asynchronous: bool) -> Tracking:
    """`auto`: an asynchronous endpoint's backlog, else concurrency, of as many requests as one instance works on."""
    metric = asked.metric
    if metric == "auto":
        metric = "backlog" if asynchronous else "concurrency"
    at_once = float(plan.serving.batch_size * plan.serving.workers)
    return Tracking(
        at_once if asked.target == "auto" else asked.target,
        metric,
        asked.scale_in_cooldown_in_seconds,
        asked.scale_out_cooldown_in_seconds,
        asked.scale_in,
    )


def schedules(asked: ScalingSpec) -> list[Schedule]:
    """New bounds at given times."""
    return [Schedule(each.name, each.when, each.min, each.max, each.timezone) for each in asked.schedules]


def predictive(asked: ScalingSpec) -> Predictive | None:
    """Capacity ahead of the load."""
    given = asked.predictive
    if given is None:
        return None
    buffer = given.scheduling_buffer_in_seconds
    return Predictive(given.target, given.mode, buffer, given.above_max, given.max_capacity_buffer_percent)


def _resources(asked: ComponentSpec, plan: Plan) -> Resources:
    """`auto` memory: what the plan's ledger needs of the host."""
    needed = max(LEAST_MEMORY, -(-plan.memory.needed("host") // MEBIBYTE))
    least = needed if asked.min_memory_in_mb == "auto" else asked.min_memory_in_mb
    return Resources(least, asked.accelerators, asked.max_memory_in_mb, asked.cpus)
