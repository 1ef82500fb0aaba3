"""What the gate's function may do: nothing but what this plan's benchmark and strategy need, by ARN.

Not the function (benchmark_gate.py). Which action takes which resource: AWS's Service Authorization Reference,
"Actions, resources, and condition keys for Amazon SageMaker".
"""

from __future__ import annotations

from collections.abc import Iterator

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from heavylift.plan.plan import Plan
from heavylift_cdk.checks import acknowledge, acknowledge_objects
from heavylift_cdk.model_endpoint import ModelEndpoint
from heavylift_cdk.recording import Asynchronous
from heavylift_cdk.slo_alarm import NAMESPACE
from heavylift_cdk.values import allowed, constant, stack_id

MODEL_TAG = "heavylift:model"  # the serving stack's, on everything in it that has tags


def rights(scope: Construct, plan: Plan, endpoint: ModelEndpoint, reports: s3.IBucket) -> list[iam.PolicyStatement]:
    """The statements; the findings that stay are acknowledged on `scope`."""
    return [
        # It reads its own earlier answer, too: CloudFormation may send a request twice.
        *measuring(scope, plan, endpoint.arn, reports, endpoint.asynchronous, "s3:GetObject", "s3:PutObject"),
        allowed(["cloudformation:DescribeStacks"], [stack_id()]),
        *_of_strategy(scope, plan, endpoint),
    ]


def measuring(
    scope: Construct, plan: Plan, endpoint: str, reports: s3.IBucket, asynchronous: Asynchronous | None, *kept: str
) -> list[iam.PolicyStatement]:
    """What a benchmark of an endpoint (its ARN) needs; `kept`: the actions on its objects in the report bucket."""
    assert (asynchronous is not None) == _asynchronous(plan), "the plan's benchmark asks as the endpoint is asked"
    acknowledge_objects(scope, reports, f"reports/{plan.name}/*", "every run writes under a name of its own")
    acknowledge(scope, "IAM5[Resource::*]", "CloudWatch's metrics are no resources; a condition narrows what is put")
    found = [
        iam.PolicyStatement(actions=["sagemaker:DescribeEndpoint", _invocation(plan)], resources=[endpoint]),
        *_of_component(scope, plan),
        # It has no resource, but a condition.
        allowed(["cloudwatch:PutMetricData"], ["*"], {"StringEquals": {"cloudwatch:namespace": NAMESPACE}}),
        # SageMaker's own share of the latency; reading metrics has neither a resource nor a condition.
        allowed(["cloudwatch:GetMetricData"], ["*"]),
        iam.PolicyStatement(actions=list(kept), resources=[f"{constant(reports, 'bucket_arn')}/reports/{plan.name}/*"]),
    ]
    if asynchronous is not None:
        found += asynchronous.asking()
        for bucket, keys in asynchronous.objects():
            acknowledge_objects(scope, bucket, keys, "requests and replies of a benchmark, each with a key of its own")
    if (key := constant(reports, "encryption_key")) is not None:
        found.append(allowed(["kms:Decrypt", "kms:GenerateDataKey"], [constant(key, "key_arn")]))
    return found


def _invocation(plan: Plan) -> str:
    """The one way in which the benchmark calls the endpoint."""
    if _asynchronous(plan):
        return "sagemaker:InvokeEndpointAsync"
    streams = plan.benchmark is not None and plan.benchmark.stream
    return "sagemaker:InvokeEndpointWithResponseStream" if streams else "sagemaker:InvokeEndpoint"


def _asynchronous(plan: Plan) -> bool:
    return plan.benchmark is not None and plan.benchmark.asynchronous is True


def _of_component(scope: Construct, plan: Plan) -> Iterator[iam.PolicyStatement]:
    """An inference component is a resource of its own, beside its endpoint."""
    if plan.benchmark is not None and (name := plan.benchmark.inference_component) is not None:
        arn = _arn(scope, "inference-component", name)
        actions = ["sagemaker:DescribeInferenceComponent", _invocation(plan)]
        yield iam.PolicyStatement(actions=actions, resources=[arn])


def _of_strategy(scope: Construct, plan: Plan, endpoint: ModelEndpoint) -> Iterator[iam.PolicyStatement]:
    """For a model that is measured before it serves."""
    if plan.gate.strategy == "staging":
        staging = _arn(scope, "endpoint", f"{plan.name}-staging")
        actions = ["sagemaker:CreateEndpoint", "sagemaker:DescribeEndpoint", "sagemaker:DeleteEndpoint"]
        yield iam.PolicyStatement(actions=[*actions, _invocation(plan)], resources=[staging])
        yield _on_own_configs(scope, plan, "sagemaker:CreateEndpoint")
    if plan.gate.strategy == "dark_variant":
        both, name = f"{plan.name}-dark-*", "endpoint-config"
        acknowledge(scope, f"IAM5[Resource::{_shown(name, both)}]", "each new config has a dark one of its own")
        actions = ["sagemaker:UpdateEndpoint", "sagemaker:UpdateEndpointWeightsAndCapacities"]
        yield iam.PolicyStatement(actions=actions, resources=[endpoint.arn])
        yield iam.PolicyStatement(
            actions=[
                "sagemaker:CreateEndpointConfig",
                "sagemaker:DescribeEndpointConfig",
                "sagemaker:DeleteEndpointConfig",
                "sagemaker:UpdateEndpoint",
                "sagemaker:AddTags",
                "sagemaker:ListTags",
            ],
            resources=[_arn(scope, name, both)],
        )
        yield _on_own_configs(scope, plan, "sagemaker:DescribeEndpointConfig", "sagemaker:UpdateEndpoint")


def _on_own_configs(scope: Construct, plan: Plan, *actions: str) -> iam.PolicyStatement:
    """CloudFormation names the configs, old and new, so that their tag must tell whose they are."""
    acknowledge(scope, f"IAM5[Resource::{_shown('endpoint-config', '*')}]", "a condition on the model's tag narrows it")
    return iam.PolicyStatement(
        actions=list(actions),
        resources=[_arn(scope, "endpoint-config", "*")],
        conditions={"StringEquals": {f"aws:ResourceTag/{MODEL_TAG}": plan.name}},
    )


def _arn(scope: Construct, resource: str, name: str) -> str:
    return Stack.of(scope).format_arn(
        service="sagemaker", resource=resource, resource_name=name, arn_format=ArnFormat.SLASH_RESOURCE_NAME
    )


def _shown(resource: str, name: str) -> str:
    """The ARN in the words of a finding."""
    return f"arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>:{resource}/{name}"
