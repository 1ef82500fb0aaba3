"""ModelEndpoint in a stack of one's own: order, grants, metrics."""

from __future__ import annotations

from typing import Any

import pytest

from heavylift_cdk import ModelEndpoint
from tests.cdk import IMAGE, App, Match, Stack, Template, iam, plan, s3


@pytest.fixture(scope="module")
def endpoint() -> ModelEndpoint:
    """An endpoint whose role is in the same stack, and that a user may invoke."""
    stack = Stack(App(), "mine")
    bucket = s3.Bucket(stack, "Bucket")
    role = iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
    bucket.grant_read(role)
    made = ModelEndpoint.of_plan(stack, "Endpoint", plan=plan(), weights=bucket, role=role, image=IMAGE)
    made.grant_invoke(iam.User(stack, "User"))
    return made


@pytest.fixture(scope="module")
def template(endpoint: ModelEndpoint) -> Template:
    return Template.from_stack(Stack.of(endpoint))


def test_the_model_awaits_every_policy_of_its_role(template: Template) -> None:
    (role,) = template.find_resources("AWS::IAM::Role")
    (model,) = template.find_resources("AWS::SageMaker::Model").values()

    policies = {
        id
        for id, policy in template.find_resources("AWS::IAM::Policy").items()
        if {"Ref": role} in policy["Properties"].get("Roles", [])
    }
    assert len(policies) == 2  # what the bucket granted, and the image's
    assert policies <= set(model["DependsOn"])


def test_a_grantee_may_invoke_this_endpoint_only(template: Template) -> None:
    arn = Match.array_with([Match.string_like_regexp(":endpoint/tiny-t5$")])
    statement = {
        "Action": ["sagemaker:InvokeEndpoint", "sagemaker:InvokeEndpointWithResponseStream"],
        "Effect": "Allow",
        "Resource": {"Fn::Join": ["", arn]},
    }

    template.has_resource_properties(
        "AWS::IAM::Policy", {"PolicyDocument": {"Statement": [statement]}, "Users": Match.any_value()}
    )


def test_a_metric_is_of_this_endpoint(endpoint: ModelEndpoint) -> None:
    metrics: dict[str, Any] = {
        "Invocations": endpoint.metric_invocations(),
        "Invocation5XXErrors": endpoint.metric_server_errors(),
        "ModelLatency": endpoint.metric_model_latency(percentile=90),
        "GPUMemoryUtilization": endpoint.metric_gpu_memory(),
    }

    for name, metric in metrics.items():
        assert metric.metric_name == name
        assert metric.dimensions == {"EndpointName": "tiny-t5", "VariantName": "AllTraffic"}
    assert metrics["ModelLatency"].statistic == "p90"
    assert {metric.namespace for metric in metrics.values()} == {"AWS/SageMaker", "/aws/sagemaker/Endpoints"}
