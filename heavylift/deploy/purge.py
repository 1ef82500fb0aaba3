"""Removes what a deployment keeps on purpose: a model's weights and reports, and the foundation once no model uses it.

Not the removal of a serving stack: `cdk destroy` does that first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3

from heavylift.deploy import stacks
from heavylift.errors import DeployError
from heavylift.plan.plan import Plan


def purge(plan: Plan) -> Iterator[str]:
    """Delete, and say in one line each what was deleted. Weights that another model's stack still serves are kept."""
    cloudformation, s3 = boto3.client("cloudformation"), boto3.client("s3")
    foundation = stacks.describe(cloudformation, stacks.FOUNDATION)
    if foundation is None:
        yield "nothing to purge"
        return
    left = _serving_stacks(cloudformation)
    weights, reports = foundation.outputs["WeightsBucketName"], foundation.outputs["ReportsBucketName"]
    if left:
        yield f"{_empty(s3, reports, f'reports/{plan.name}/')} objects of s3://{reports}/reports/{plan.name}/"
        yield f"kept the weights and the foundation: {', '.join(left)} may use them"
        return
    cloudformation.delete_stack(StackName=stacks.FOUNDATION)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=stacks.FOUNDATION, WaiterConfig={"Delay": 1})
    yield f"stack {stacks.FOUNDATION}"
    for bucket in (weights, reports):
        count = _empty(s3, bucket, "")
        s3.delete_bucket(Bucket=bucket)
        yield f"s3://{bucket} and its {count} objects"
    yield f"{foundation.outputs['KeyArn']} stays: KMS deletes a key only after a waiting period; schedule that yourself"


def _serving_stacks(cloudformation: Any) -> list[str]:
    pages = cloudformation.get_paginator("describe_stacks").paginate()
    names = [stack["StackName"] for page in pages for stack in page["Stacks"]]
    return sorted(name for name in names if name.startswith("heavylift-") and name != stacks.FOUNDATION)


def _empty(s3: Any, bucket: str, prefix: str) -> int:
    """Delete every version of every object below a prefix; gives their number. DeployError names those that stayed."""
    deleted = 0
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        rows = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        keys = [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in rows]
        if not keys:
            continue
        reply = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        if errors := reply.get("Errors"):
            raise DeployError("\n".join(f"s3://{bucket}/{each['Key']} stayed: {each['Message']}" for each in errors))
        deleted += len(keys)
    return deleted
