"""A model file's plan, and a plan in the constructs' own words. Not the stack that puts them together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from heavylift.deploy.pools import plan_of
from heavylift.plan.lock import read_fresh
from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift_cdk.capacity import Instances
from heavylift_cdk.container import Container
from heavylift_cdk.model_data import ModelData
from heavylift_cdk.runtime_image import RuntimeImage
from heavylift_cdk.variant import Variant

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_s3 as s3


def read_plan(file: Path | str, env: str | None = None) -> Plan:
    """The plan of a model file and of the lock beside it, which `heavylift plan` writes. Raises InputError."""
    spec = ModelSpec.from_yaml(file, env)
    return plan_of(spec, read_fresh(spec, Path(file), env))


def container_of(plan: Plan, weights: s3.IBucket, image: RuntimeImage, *, granted: bool = True) -> Container:
    """By default the model's folder is the rendered options, and the ranks read the weights from S3 themselves.

    With network isolation the container cannot reach S3: SageMaker downloads the weights into that folder, and the
    environment carries the options. `granted`: the endpoint's role may read the weight bucket already.
    """
    if plan.enable_network_isolation:
        data = ModelData.from_prefix(weights, plan.served_prefix, granted=granted)
        return Container(image, data, {**plan.environment, **option_environment(plan)})
    where = {"OPTION_MODEL_ID": ModelData.from_prefix(weights, plan.served_prefix).uri}
    if plan.job is not None and plan.job.kind == "compile":
        where["OPTION_COMPILED_GRAPH_PATH"] = weights.s3_url_for_object(plan.job.prefix)
    data = ModelData.from_prefix(weights, plan.config_prefix, granted=granted)
    return Container(image, data, {**plan.environment, **where})


def read_besides(plan: Plan) -> list[str]:
    """Prefixes of the weight bucket that the container reads by itself."""
    streamed = [] if plan.enable_network_isolation else [plan.served_prefix]
    return streamed + ([plan.job.prefix] if plan.job is not None and plan.job.kind == "compile" else [])


def many_models(plan: Plan, archives: ModelData, image: RuntimeImage, *, cache: bool) -> Container:
    """The container of a multi-model endpoint: the plan's options are those of each archive that says no others."""
    return Container(image, archives, {**plan.environment, **option_environment(plan)}, cache_models=cache)


def option_environment(plan: Plan) -> dict[str, str]:
    """serving.properties as the environment that the runtime reads as the same (heavylift_runtime.environment)."""
    return {_variable(key): value for key, value in plan.properties}


def _variable(key: str) -> str:
    if key == "engine" or key.startswith("option."):
        return f"OPTION_{key.removeprefix('option.').upper()}"
    return f"SERVING_{re.sub('(?<=[a-z])(?=[A-Z])', '_', key).upper()}"


def variant_of(plan: Plan, container: Container) -> Variant:
    """The plan's machines and times."""
    variant = plan.variant
    return Variant(
        Instances(plan.instance.type, plan.instance.count),
        (container,),
        model_data_download_timeout_in_seconds=variant.model_data_download_timeout_in_seconds,
        container_startup_health_check_timeout_in_seconds=variant.container_startup_health_check_timeout_in_seconds,
        volume_size_in_gb=variant.volume_size_in_gb,
        inference_ami_version=variant.inference_ami_version,
    )
