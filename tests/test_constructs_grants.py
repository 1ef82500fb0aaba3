"""What grant_* lets somebody do, by action and ARN, and which of CloudWatch's metrics metric_* are."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift_cdk import InferenceComponent, Instances, ModelEndpoint, Resources, Variant, Weights
from tests.cdk import App, Stack, Template, iam, resolve  # before aws_cdk: it chooses the Node
from tests.hosting import bucket, container

ENDPOINT = "arn:aws:sagemaker:a-AWS::Region:123456789012:endpoint/mine"


@pytest.fixture
def endpoint() -> ModelEndpoint:
    stack = Stack(App(), "mine")
    own = container(bucket(stack))
    return ModelEndpoint(
        stack, "Endpoint", variants=[Variant(Instances("ml.c6i.xlarge", 2), (own,))], endpoint_name="mine"
    )


@pytest.fixture
def component() -> InferenceComponent:
    stack = Stack(App(), "mine")
    host = Variant(Instances("ml.g5.12xlarge", 1), ())
    shared = ModelEndpoint(stack, "Endpoint", variants=[host], endpoint_name="mine")
    own, needs = container(bucket(stack)), Resources(1024, accelerators=1)
    return InferenceComponent(
        stack, "Component", endpoint=shared, container=own, resources=needs, component_name="small"
    )


def rights(grantee: iam.User) -> list[tuple[tuple[str, ...], Any]]:
    """Actions and resources of all that a user may."""
    policies = Template.from_stack(Stack.of(grantee)).find_resources("AWS::IAM::Policy").values()
    found = []
    for policy in (resolve(each["Properties"]) for each in policies):
        if policy.get("Users"):
            for row in policy["PolicyDocument"]["Statement"]:
                actions = row["Action"] if isinstance(row["Action"], list) else [row["Action"]]
                found.append((tuple(actions), row["Resource"]))
    return found


@pytest.mark.parametrize(
    ("grant", "actions"),
    [
        ("grant_invoke", ("sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream")),
        ("grant_invoke_async", ("sagemaker:InvokeEndpointAsync",)),
        ("grant_describe", ("sagemaker:DescribeEndpoint",)),
    ],
)
def test_who_is_granted_something_of_an_endpoint_may_do_that_to_it_and_no_more(
    endpoint: ModelEndpoint, grant: str, actions: tuple[str, ...]
) -> None:
    user = iam.User(endpoint, "User")

    assert getattr(endpoint, grant)(user).success

    assert rights(user) == [(actions, ENDPOINT)]


def test_a_component_is_invoked_by_who_may_invoke_it_and_its_endpoint(component: InferenceComponent) -> None:
    user = iam.User(component, "User")

    component.grant_invoke(user)

    ((actions, resources),) = rights(user)
    assert actions == ("sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream")
    assert resources == [ENDPOINT, resolve(Stack.of(component).resolve(component.arn))]


def test_who_may_read_a_model_may_read_no_other() -> None:
    from aws_cdk import aws_kms as kms

    stack = Stack(App(), "mine")
    weights, user = Weights(stack, "Weights", key=kms.Key(stack, "Key")), iam.User(stack, "User")

    weights.grant_read(user, "a1" * 32)

    by_action = dict(rights(user))
    assert set(by_action) == {("s3:GetObject",), ("s3:ListBucket",), ("kms:Decrypt",)}
    assert by_action["s3:GetObject",].endswith(f"/weights/{'a1' * 32}/*")


VARIANT = {"EndpointName": "mine", "VariantName": "AllTraffic"}
REQUESTS, MACHINES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        ("metric_invocations", {}, (REQUESTS, "Invocations", "Sum", VARIANT)),
        ("metric_client_errors", {}, (REQUESTS, "Invocation4XXErrors", "Sum", VARIANT)),
        ("metric_server_errors", {}, (REQUESTS, "Invocation5XXErrors", "Sum", VARIANT)),
        ("metric_model_latency", {"percentile": 99}, (REQUESTS, "ModelLatency", "p99", VARIANT)),
        ("metric_overhead_latency", {"percentile": 50}, (REQUESTS, "OverheadLatency", "p50", VARIANT)),
        ("metric_utilization", {"what": "Disk"}, (MACHINES, "DiskUtilization", "Maximum", VARIANT)),
        ("metric_gpu_memory", {}, (MACHINES, "GPUMemoryUtilization", "Maximum", VARIANT)),
        ("metric_instances", {}, (MACHINES, "CPUUtilization", "SampleCount", VARIANT)),
        ("metric_backlog", {}, (REQUESTS, "ApproximateBacklogSizePerInstance", "Average", {"EndpointName": "mine"})),
        ("metric_of_endpoint", {"name": "X"}, (REQUESTS, "X", "Average", {"EndpointName": "mine"})),
    ],
)
def test_a_metric_is_sagemakers_own_by_namespace_name_and_dimensions(
    endpoint: ModelEndpoint, method: str, given: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    metric = getattr(endpoint, method)(**given)

    assert (metric.namespace, metric.metric_name, metric.statistic, metric.dimensions) == expected


def test_what_wakes_a_component_is_a_metric_of_the_component_alone(component: InferenceComponent) -> None:
    metric = component.metric_no_capacity()

    assert (metric.namespace, metric.metric_name, metric.statistic) == (
        REQUESTS, "NoCapacityInvocationFailures", "Maximum",
    )  # fmt: skip
    assert metric.dimensions is not None and list(metric.dimensions) == ["InferenceComponentName"]
    here = Stack.of(component)
    assert here.resolve(metric.dimensions["InferenceComponentName"]) == here.resolve(component.name)
