"""The variants and the shadow of a model file, each as a model file of its own, with a plan of its own.

Not a lock of its own: they have the file's weights, code and prompt, and nothing more is learned from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heavylift.deploy.pools import plan_of
from heavylift.errors import InputError
from heavylift.plan.lock import Lock
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift.spec.variants import VariantSpec


@dataclass(frozen=True)
class Other:
    """One variant: what its file would say, and the plan of that."""

    spec: ModelSpec
    plan: Plan


def others_of(spec: ModelSpec, lock: Lock) -> dict[str, Other]:
    """By the variant's name, the shadow last. Raises InputError with the faults of all."""
    found: dict[str, Other] = {}
    faults: list[str] = []
    for each in (*(spec.variants or ()), *(() if spec.shadow is None else (spec.shadow,))):
        own = spec_of(spec, each)
        try:
            found[each.name] = Other(own, plan_of(own, lock))
        except InputError as error:
            faults += [f"variant {each.name}: {fault}" for fault in error.faults]
    if faults:
        raise InputError(faults)
    return found


def config_plans(plan: Plan, others: Mapping[str, Other]) -> dict[str, Plan]:
    """By its digest, every rendered configuration that the endpoint's containers read, the file's own first."""
    return {each.config_digest: each for each in (plan, *(other.plan for other in others.values()))}


def spec_of(spec: ModelSpec, given: VariantSpec) -> ModelSpec:
    """The file as it would be with this variant alone: `options`, `serving` and `environment` add to the file's."""
    changes: dict[str, Any] = {
        name: value
        for name in (
            "instance_type",
            "initial_instance_count",
            "tensor_parallel_degree",
            "model_data_download_timeout_in_seconds",
            "container_startup_health_check_timeout_in_seconds",
            "volume_size_in_gb",
        )
        if (value := getattr(given, name)) is not None
    }
    if given.options is not None:
        changes["options"] = {**spec.options, **given.options}
    if given.environment is not None:
        changes["environment"] = {**spec.environment, **given.environment}
    if given.serving is not None:
        changes["serving"] = spec.serving.model_copy(update=given.serving.model_dump(exclude_unset=True))
    if given.instance_type not in (
        None,
        spec.instance_type,
    ):  # what is said of the machine is of the file's type
        changes |= {"instance_pools": None, "capacity_reservation": None, "inference_ami_version": "auto"}
        if given.volume_size_in_gb is None:
            changes["volume_size_in_gb"] = "auto"
    return spec.model_copy(update={**changes, "variants": None, "shadow": None})
