"""A plan in the constructs' own words: its container and its variant. Not the stack that puts them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heavylift.plan.plan import Plan
from heavylift_cdk.capacity import Instances
from heavylift_cdk.container import Container
from heavylift_cdk.model_data import ModelData
from heavylift_cdk.runtime_image import RuntimeImage
from heavylift_cdk.variant import Variant

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_s3 as s3


def container_of(plan: Plan, weights: s3.IBucket, image: RuntimeImage) -> Container:
    """By default the model's folder is the rendered options, and the ranks read the weights from S3 themselves.

    With network isolation the container cannot reach S3: SageMaker downloads the weights into that folder, and the
    plan's environment carries the options.
    """
    isolated = plan.enable_network_isolation
    prefix = plan.weights_prefix if isolated else plan.config_prefix
    where = {} if isolated else {"OPTION_MODEL_ID": weights.s3_url_for_object(plan.weights_prefix)}
    return Container(image, ModelData.from_prefix(weights, prefix, granted=True), {**plan.environment, **where})


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
