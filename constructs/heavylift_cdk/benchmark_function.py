"""The function that runs a benchmark: the core's benchmark room, on a whole processor, as long as Lambda lets it.

Not what calls it: a gate (benchmark_gate.py), or a schedule (endpoint_benchmark.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from aws_cdk import IgnoreMode
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from heavylift import benchmark
from heavylift_cdk.function import function
from heavylift_cdk.values import constant

CORE = Path(benchmark.__file__).resolve().parents[2]

# The core's benchmark room and the empty __init__.py above it, under their own names.
EXCLUDE = ("**", "!heavylift/__init__.py", "!heavylift/benchmark/**", "**/__pycache__", "**/.*")

LAMBDA_LIMIT_SECONDS = 900
# Of these a run may use 780 seconds: the rest is for the last reply, the report and a cold start. A longer one takes
# several Lambdas, each called by the one before it.
LEG_SECONDS = 780
MEMORY_MB = 1769  # one whole vCPU (AWS Lambda developer guide, "Configure Lambda function memory")


def benchmark_function(
    scope: Construct,
    *,
    entry: Literal["handler", "standing"],
    reports: s3.IBucket,
    log_group: logs.ILogGroup,
    statements: Sequence[iam.PolicyStatement],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> lambda_.Function:
    """`entry`: the module of heavylift.benchmark whose handler it is."""
    return function(
        scope,
        "Function",
        code=benchmark_code(),
        handler=f"heavylift.benchmark.{entry}.handler",
        timeout_seconds=LAMBDA_LIMIT_SECONDS,
        memory_mb=MEMORY_MB,
        log_group=log_group,
        environment={
            "REPORTS_BUCKET": constant(reports, "bucket_name"),
            **({} if environment is None else environment),
        },
        statements=statements,
    )


def benchmark_code(core: Path = CORE) -> lambda_.Code:
    """The asset, whose hash changes with heavylift/benchmark and nothing else; `core` is the folder with heavylift/."""
    return lambda_.Code.from_asset(str(core), exclude=list(EXCLUDE), ignore_mode=IgnoreMode.DOCKER)
