"""BenchmarkGate: after the endpoint, run the plan's benchmark; a missed target does what the plan says.

Not the benchmark: that is heavylift.benchmark, whose folder is the Lambda's whole code.
"""

from __future__ import annotations

import math
from pathlib import Path

from aws_cdk import CustomResource, Duration, IgnoreMode, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from heavylift import benchmark
from heavylift.plan.plan import Plan
from heavylift_cdk.checks import acknowledge, acknowledge_objects
from heavylift_cdk.function import function
from heavylift_cdk.model_endpoint import ModelEndpoint
from heavylift_cdk.slo_alarm import NAMESPACE, SloAlarm

CORE = Path(benchmark.__file__).resolve().parents[2]

# The core's benchmark room and the empty __init__.py above it, under their own names.
EXCLUDE = ("**", "!heavylift/__init__.py", "!heavylift/benchmark/**", "**/__pycache__", "**/.*")

LAMBDA_LIMIT = Duration.minutes(15)
# Of these a run may use 780 seconds: the rest is for the last reply, the report and a cold start. A longer one takes
# several Lambdas, each called by the one before it.
LEG_SECONDS = 780
LONGEST_SERVICE_TIMEOUT = Duration.hours(1)  # AWS CloudFormation template reference, CustomResource
MEMORY_MB = 1769  # one whole vCPU (AWS Lambda developer guide, "Configure Lambda function memory")


class BenchmarkGate(Construct):
    """The function, the custom resource that runs it when the endpoint is there, and the alarm on what it finds.

    The resource waits for the endpoint because it refers to it, and for the function's rights as the function does.
    `alarm` is None where the plan only warns.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        plan: Plan,
        endpoint: ModelEndpoint,
        reports: s3.IBucket,
        log_group: logs.ILogGroup,
    ) -> None:
        super().__init__(scope, id)
        runner = function(
            self,
            "Function",
            code=benchmark_code(),
            handler="heavylift.benchmark.handler.handler",
            timeout=LAMBDA_LIMIT,
            memory_mb=MEMORY_MB,
            log_group=log_group,
            environment={"REPORTS_BUCKET": reports.bucket_name},
            statements=_rights(self, plan, endpoint, reports),
        )
        acknowledge_objects(self, reports, f"reports/{plan.name}/*", "every run writes under a name of its own")
        acknowledge(self, "IAM5[Resource::*]", "PutMetricData knows no resource; a condition narrows it")
        assert plan.benchmark is not None, "a plan without a benchmark has no gate"
        legs = math.ceil(plan.benchmark.max_seconds / LEG_SECONDS)
        gate = CustomResource(
            self,
            "Resource",
            resource_type="Custom::HeavyliftBenchmarkGate",
            service_token=runner.function_arn,
            service_timeout=service_timeout(legs),
            properties={
                "EndpointName": endpoint.name,
                "EndpointConfigName": endpoint.config_name,
                "GateDigest": plan.gate_digest,
                "Benchmark": plan.benchmark_json(),
            },
        )
        if legs > 1:
            gate.node.add_dependency(_may_call_itself(self, runner))
        self.alarm = None if plan.gate.on_fail == "warn" else SloAlarm(self, "SloAlarm", endpoint_name=plan.name)


def service_timeout(legs: int) -> Duration:
    """How long CloudFormation waits for an answer: as long as so many Lambdas take, and a minute; at most an hour."""
    seconds = legs * LAMBDA_LIMIT.to_seconds() + 60
    return Duration.seconds(min(seconds, LONGEST_SERVICE_TIMEOUT.to_seconds()))


def _may_call_itself(scope: Construct, runner: lambda_.Function) -> iam.Policy:
    """A policy of its own: the function waits for its default policy, which therefore cannot name the function."""
    right = iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[runner.function_arn])
    assert runner.role is not None
    return iam.Policy(scope, "NextLeg", statements=[right], roles=[runner.role])


def benchmark_code(core: Path = CORE) -> lambda_.Code:
    """The asset, whose hash changes with heavylift/benchmark and nothing else; `core` is the folder with heavylift/."""
    return lambda_.Code.from_asset(str(core), exclude=list(EXCLUDE), ignore_mode=IgnoreMode.DOCKER)


def _invocation(plan: Plan) -> str:
    """The one way in which the benchmark calls the endpoint."""
    streams = plan.benchmark is not None and plan.benchmark.stream
    return "sagemaker:InvokeEndpointWithResponseStream" if streams else "sagemaker:InvokeEndpoint"


def _rights(scope: Construct, plan: Plan, endpoint: ModelEndpoint, reports: s3.IBucket) -> list[iam.PolicyStatement]:
    rights = [
        iam.PolicyStatement(actions=["sagemaker:DescribeEndpoint", _invocation(plan)], resources=[endpoint.arn]),
        iam.PolicyStatement(actions=["cloudformation:DescribeStacks"], resources=[Stack.of(scope).stack_id]),
        iam.PolicyStatement(
            actions=["cloudwatch:PutMetricData"],  # it has no resource, but a condition
            resources=["*"],
            conditions={"StringEquals": {"cloudwatch:namespace": NAMESPACE}},
        ),
        # It reads its own earlier answer, too: CloudFormation may send a request twice.
        iam.PolicyStatement(
            actions=["s3:GetObject", "s3:PutObject"], resources=[reports.arn_for_objects(f"reports/{plan.name}/*")]
        ),
    ]
    if reports.encryption_key is not None:
        rights.append(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[reports.encryption_key.key_arn]
            )
        )
    return rights
