"""A CodeBuild build as a job: what staging and images have in common. Standard library and boto3 only."""

import os
from typing import Any

import boto3


def start(variables: dict[str, str], request: str) -> str:
    """Start a build of the project, once for a request, which CloudFormation may send twice; its name."""
    build = boto3.client("codebuild").start_build(
        projectName=os.environ["PROJECT"],
        environmentVariablesOverride=[{"name": name, "value": value} for name, value in variables.items()],
        idempotencyToken=request,
    )["build"]
    return short(build["id"])


def name_of(detail: dict[str, Any]) -> str:
    """Of a build that EventBridge tells of."""
    return short(detail["build-id"])


def short(build: str) -> str:
    """A build's id is project:uuid, of its ARN the end; its name here is the uuid."""
    return build.rsplit("/", 1)[-1].rsplit(":", 1)[-1]


def status(name: str) -> tuple[str, str]:
    """Its status, and where its log is."""
    (build,) = boto3.client("codebuild").batch_get_builds(ids=[f"{os.environ['PROJECT']}:{name}"])["builds"]
    return build["buildStatus"], build.get("logs", {}).get("deepLink", "its log")


def over(name: str) -> bool:
    """It has ended."""
    return status(name)[0] != "IN_PROGRESS"


def stop(name: str) -> None:
    """End it."""
    boto3.client("codebuild").stop_build(id=f"{os.environ['PROJECT']}:{name}")
