"""The Lambda of WeightsReady: are both manifests in the bucket? Standard library and boto3 only.

Not a check of the files themselves: `heavylift weights push` writes a manifest last.
"""

from typing import Any

import boto3

from .reply import checked


def handler(event: dict[str, Any], context: Any) -> None:
    """Answer SUCCESS, or FAILED with the command to run."""
    checked(event, "for the weights", lambda properties: missing(boto3.client("s3"), properties))


def missing(s3: Any, properties: dict[str, Any]) -> str | None:
    """The sentence for the user, or None when both manifests are there."""
    bucket, model = properties["Bucket"], properties["Model"]
    for key in properties["Keys"]:
        found = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        if [item["Key"] for item in found] != [key]:
            folder = key.removesuffix("manifest.json")
            return (
                f"the weights of {model} are not in s3://{bucket}/{folder}: "
                f"run 'heavylift weights push {properties['ModelFile']}'"
            )
    return None
