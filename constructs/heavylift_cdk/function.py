"""A Lambda function of ours: its own role, one log group given to it, and no right but those listed.

Not a wrapper for every option of Lambda: what all our functions share, and nothing more. `handlers` is the code of
those that are the constructs' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from aws_cdk import IgnoreMode
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from heavylift_cdk.values import allowed, constant, seconds, service

HERE = Path(__file__).parent


def handlers() -> lambda_.Code:
    """The folder lambdas/ under its own name, one asset for all: what they share is one file there."""
    excluded = ["**", "!lambdas/**", "**/__pycache__"]
    return lambda_.Code.from_asset(str(HERE), exclude=excluded, ignore_mode=IgnoreMode.DOCKER)


def function(
    scope: Construct,
    id: str,
    *,
    code: lambda_.Code,
    handler: str,
    timeout_seconds: int,
    memory_mb: int,
    log_group: logs.ILogGroup,
    environment: Mapping[str, str],
    statements: Sequence[iam.PolicyStatement],
) -> lambda_.Function:
    """The function; whoever depends on it depends on its role's policy, too, which is a child of it."""
    return lambda_.Function(
        scope,
        id,
        runtime=_runtime(),
        code=code,
        handler=handler,
        timeout=seconds(timeout_seconds),
        memory_size=memory_mb,
        log_group=log_group,
        environment=dict(environment),
        # Without a role of its own a function gets AWSLambdaBasicExecutionRole, which may write to every log group.
        role=iam.Role(scope, f"{id}Role", assumed_by=service("lambda")),
        initial_policy=[
            *statements,
            # As the log group's own grant says it.
            allowed(["logs:CreateLogStream", "logs:PutLogEvents"], [constant(log_group, "log_group_arn")]),
        ],
    )


@cache
def _runtime() -> lambda_.Runtime:
    return lambda_.Runtime.PYTHON_3_14


def may_call_itself(scope: Construct, runner: lambda_.Function) -> iam.Policy:
    """A policy of its own: the function waits for its default policy, which therefore cannot name the function."""
    right = iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[runner.function_arn])
    assert runner.role is not None
    return iam.Policy(scope, "NextLeg", statements=[right], roles=[runner.role])
