"""A Lambda function of ours: its own role, one log group given to it, and no right but those listed.

Not a wrapper for every option of Lambda: what all our functions share, and nothing more. `handlers` is the code of
those that are the constructs' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aws_cdk import Duration, IgnoreMode
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

RUNTIME = lambda_.Runtime.PYTHON_3_14
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
    timeout: Duration,
    memory_mb: int,
    log_group: logs.ILogGroup,
    environment: Mapping[str, str],
    statements: Sequence[iam.PolicyStatement],
) -> lambda_.Function:
    """The function; whoever depends on it depends on its role's policy, too, which is a child of it."""
    made = lambda_.Function(
        scope,
        id,
        runtime=RUNTIME,
        code=code,
        handler=handler,
        timeout=timeout,
        memory_size=memory_mb,
        log_group=log_group,
        environment=dict(environment),
        # Without a role of its own a function gets AWSLambdaBasicExecutionRole, which may write to every log group.
        role=iam.Role(scope, f"{id}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com")),
        initial_policy=list(statements),
    )
    log_group.grant_write(made)
    return made
