"""The bounds of the model file's numbers are those of AWS's own API, read from botocore's service models."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from heavylift.spec import ModelSpec
from heavylift.spec.container import CompileSpec
from heavylift.spec.hosting import NetworkSpec, PoolSpec, RoutingSpec
from heavylift.spec.monitoring import AsyncSpec, DataCaptureSpec, MetricsSpec
from heavylift.spec.rollout import AllAtOnce, Rolling
from heavylift.spec.rollout import Canary as CanarySpec
from heavylift.spec.scaling import PredictiveSpec, ScaleInSpec
from heavylift.spec.variants import ComponentSpec, VariantSpec

SAGEMAKER, SCALING = "sagemaker", "application-autoscaling"


def shape(service: str, name: str, member: str) -> dict[str, Any]:
    """The bounds of a member of a shape: min, max, enum."""
    model = botocore.session.get_session().get_service_model(service)
    found = model.shape_for(name).members[member]
    return dict(found.metadata)


def field(spec: Any, name: str) -> dict[str, Any]:
    """The one schema of a field that has bounds, of those that it may have."""
    described = spec.model_json_schema(ref_template="{model}")["properties"][name]
    members = [described, *described.get("anyOf", [])]
    bounded = [each for each in members if {"minimum", "maximum", "minItems", "maxItems", "enum"} & set(each)]
    assert len(bounded) == 1, (name, members)
    return dict(bounded[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "name", "service", "theirs", "member"),
    [
        (ModelSpec, "volume_size_in_gb", SAGEMAKER, "ProductionVariant", "VolumeSizeInGB"),
        (ModelSpec, "variant_instance_provision_timeout_in_seconds", SAGEMAKER, "ProductionVariant",
         "VariantInstanceProvisionTimeoutInSeconds"),
        (ModelSpec, "model_data_download_timeout_in_seconds", SAGEMAKER, "ProductionVariant",
         "ModelDataDownloadTimeoutInSeconds"),
        (VariantSpec, "container_startup_health_check_timeout_in_seconds", SAGEMAKER, "ProductionVariant",
         "ContainerStartupHealthCheckTimeoutInSeconds"),
        (PoolSpec, "priority", SAGEMAKER, "InstancePool", "Priority"),
        (RoutingSpec, "prefix_length", SAGEMAKER, "PrefixAwareRoutingConfig", "PrefixLength"),
        (RoutingSpec, "concurrency_threshold", SAGEMAKER, "PrefixAwareRoutingConfig",
         "ConcurrencyThreshold"),
        (DataCaptureSpec, "sampling_percentage", SAGEMAKER, "DataCaptureConfig", "InitialSamplingPercentage"),
        (AsyncSpec, "max_concurrent_invocations_per_instance", SAGEMAKER, "AsyncInferenceClientConfig",
         "MaxConcurrentInvocationsPerInstance"),
        (AllAtOnce, "wait_in_seconds", SAGEMAKER, "TrafficRoutingConfig", "WaitIntervalInSeconds"),
        (CanarySpec, "termination_wait_in_seconds", SAGEMAKER, "BlueGreenUpdatePolicy", "TerminationWaitInSeconds"),
        (Rolling, "wait_in_seconds", SAGEMAKER, "RollingUpdatePolicy", "WaitIntervalInSeconds"),
        (Rolling, "max_execution_timeout_in_seconds", SAGEMAKER, "RollingUpdatePolicy",
         "MaximumExecutionTimeoutInSeconds"),
        (ScaleInSpec, "maximum_step_size", SAGEMAKER, "ProductionVariantManagedInstanceScalingScaleInPolicy",
         "MaximumStepSize"),
        (ScaleInSpec, "cooldown_in_minutes", SAGEMAKER, "ProductionVariantManagedInstanceScalingScaleInPolicy",
         "CooldownInMinutes"),
        (ComponentSpec, "max_memory_in_mb", SAGEMAKER, "InferenceComponentComputeResourceRequirements",
         "MaxMemoryRequiredInMb"),
        (PredictiveSpec, "scheduling_buffer_in_seconds", SCALING, "PredictiveScalingPolicyConfiguration",
         "SchedulingBufferTime"),
        (PredictiveSpec, "max_capacity_buffer_percent", SCALING, "PredictiveScalingPolicyConfiguration",
         "MaxCapacityBuffer"),
    ],
)  # fmt: skip
def test_a_number_s_bounds_are_the_apis(spec: Any, name: str, service: str, theirs: str, member: str) -> None:
    ours, bounds = field(spec, name), shape(service, theirs, member)

    assert ours["minimum"] == bounds["min"]
    assert ours.get("maximum") == bounds.get("max")


@pytest.mark.parametrize(
    ("spec", "name", "theirs", "member"),
    [
        (ModelSpec, "instance_pools", "ProductionVariant", "InstancePools"),
        (NetworkSpec, "subnets", "VpcConfig", "Subnets"),
        (NetworkSpec, "security_groups", "VpcConfig", "SecurityGroupIds"),
    ],
)
def test_a_list_s_length_is_the_apis(spec: Any, name: str, theirs: str, member: str) -> None:
    ours, bounds = field(spec, name), shape(SAGEMAKER, theirs, member)

    assert (ours["minItems"], ours["maxItems"]) == (bounds["min"], bounds["max"])


def test_the_words_are_the_apis() -> None:
    model = botocore.session.get_session().get_service_model(SAGEMAKER)
    strategies = model.shape_for("ProductionVariantRoutingConfig").members["RoutingStrategy"].enum
    images = model.shape_for("ProductionVariant").members["InferenceAmiVersion"].enum

    assert {word.upper() for word in field(RoutingSpec, "strategy")["enum"]} == set(strategies)
    assert set(ModelSpec.model_json_schema()["properties"]["inference_ami_version"]["anyOf"][1]["enum"]) == set(images)
    assert field(MetricsSpec, "publish_frequency_in_seconds")["enum"] == [10, 30, 60, 120, 180, 240, 300]
    assert field(CompileSpec, "backend")["enum"] == ["torch", "neuron"]
