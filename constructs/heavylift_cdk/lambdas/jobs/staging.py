"""Staging as a job: a CodeBuild build copies a revision of the hub into the bucket. Not the copying: weights.stage."""

import os
from typing import Any

import boto3

from . import builds
from .builds import name_of, over, stop

__all__ = ["IDENTITY", "WHAT", "begin", "fault", "name_of", "over", "ready", "stop"]

WHAT, IDENTITY = "staging job", "Digest"


def ready(wanted: dict[str, Any]) -> bool:
    """The manifest, which is written last, is there."""
    manifest = f"weights/{wanted['Digest']}/manifest.json"
    found = boto3.client("s3").list_objects_v2(Bucket=os.environ["BUCKET"], Prefix=manifest, MaxKeys=1)
    return [item["Key"] for item in found.get("Contents", [])] == [manifest]


def begin(wanted: dict[str, Any], request: str) -> str:
    """Start it; a second one beside it would send nothing twice."""
    variables = {"MODEL_ID": wanted["Id"], "REVISION": wanted["Revision"], "DIGEST": wanted["Digest"]}
    return builds.start(variables, request)


def fault(wanted: dict[str, Any], name: str, until: float) -> str | None:
    """Why the files are not there, or None."""
    status, log = builds.status(name)
    if status == "SUCCEEDED" and ready(wanted):
        return None
    return f"the staging of {wanted['Id']} at {wanted['Revision']} is {status}: see {log}"
