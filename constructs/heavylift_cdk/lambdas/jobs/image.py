"""An image as a job: a CodeBuild build makes it and pushes it to ECR. Not the building: container/Dockerfile.*."""

from typing import Any

import boto3

from . import builds
from .builds import name_of, over, stop

__all__ = ["IDENTITY", "WHAT", "begin", "fault", "name_of", "over", "ready", "stop"]

WHAT, IDENTITY = "image's build", "Tag"


def ready(wanted: dict[str, Any]) -> bool:
    """The tag is there; it is the inputs' hash and immutable, so it is this very image."""
    ecr = boto3.client("ecr")
    try:
        found = ecr.describe_images(repositoryName=wanted["Repository"], imageIds=[{"imageTag": wanted["Tag"]}])
    except ecr.exceptions.ImageNotFoundException:
        return False
    return bool(found["imageDetails"])


def begin(wanted: dict[str, Any], request: str) -> str:
    """Start it."""
    return builds.start({"TAG": wanted["Tag"]}, request)


def fault(wanted: dict[str, Any], name: str, until: float) -> str | None:
    """Why the image is not there, or None; another build may have pushed the same tag meanwhile."""
    status, log = builds.status(name)
    return None if ready(wanted) else f"the build of image {wanted['Tag']} is {status}: see {log}"
