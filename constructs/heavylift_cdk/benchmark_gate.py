"""BenchmarkGate: after the endpoint, run the plan's benchmark; a missed target fails the deployment.

Not the benchmark: that is heavylift.benchmark, whose folder is the Lambda's whole code.
"""

from __future__ import annotations

from pathlib import Path

from aws_cdk import CustomResource, Duration, IgnoreMode, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from heavylift import benchmark
from heavylift.plan.plan import Plan
from heavylift_cdk.checks import acknowledge_objects
from heavylift_cdk.function import function
from heavylift_cdk.model_endpoint import ModelEndpoint

CORE = Path(benchmark.__file__).resolve().parents[2]

# The core's benchmark room and the empty __init__.py above it, under their own names.
EXCLUDE = ("**", "!heavylift/__init__.py", "!heavylift/benchmark/**", "**/__pycache__", "**/.*")

LAMBDA_LIMIT = Duration.minutes(15)
MEMORY_MB = 1769  # one whole vCPU (AWS Lambda developer guide, "Configure Lambda function memory")


class BenchmarkGate(Construct):
    """The function, and the custom resource that runs it when the endpoint is there.

    The resource waits for the endpoint because it refers to it, and for the function's rights as the function does.
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
        CustomResource(
            self,
            "Resource",
            resource_type="Custom::HeavyliftBenchmarkGate",
            service_token=runner.function_arn,
            service_timeout=LAMBDA_LIMIT.plus(Duration.minutes(1)),
            properties={
                "EndpointName": endpoint.name,
                "EndpointConfigName": endpoint.config_name,
                "GateDigest": plan.gate_digest,
                "Benchmark": plan.benchmark_json(),
            },
        )


def benchmark_code(core: Path = CORE) -> lambda_.Code:
    """The asset, whose hash changes with heavylift/benchmark and nothing else; `core` is the folder with heavylift/."""
    return lambda_.Code.from_asset(str(core), exclude=list(EXCLUDE), ignore_mode=IgnoreMode.DOCKER)


def _rights(scope: Construct, plan: Plan, endpoint: ModelEndpoint, reports: s3.IBucket) -> list[iam.PolicyStatement]:
    rights = [
        iam.PolicyStatement(
            actions=["sagemaker:DescribeEndpoint", "sagemaker:InvokeEndpoint"], resources=[endpoint.arn]
        ),
        iam.PolicyStatement(actions=["cloudformation:DescribeStacks"], resources=[Stack.of(scope).stack_id]),
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
