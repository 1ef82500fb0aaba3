"""The Lambda of WeightsReady: are both manifests in the bucket? Standard library and boto3 only.

Not a check of the files themselves: `heavylift weights push` writes a manifest last.
"""

import json
import urllib.request
from typing import Any

import boto3


def handler(event: dict[str, Any], context: Any) -> None:
    """Answer SUCCESS, or FAILED with the command to run. A stack that goes, or goes back, is never held up."""
    try:
        leaving = event["RequestType"] == "Delete" or rolling_back(event["StackId"])
        fault = None if leaving else missing(boto3.client("s3"), event["ResourceProperties"])
    except Exception as error:  # an unanswered custom resource holds its stack for an hour
        fault = f"cannot look for the weights: {error}"
    answer(event, fault, context.log_stream_name)


def rolling_back(stack: str) -> bool:
    """Whether the stack is on its way back to what served before; a failure now would end in UPDATE_ROLLBACK_FAILED."""
    (found,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return "ROLLBACK" in found["StackStatus"]


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


def answer(event: dict[str, Any], fault: str | None, log_stream: str) -> None:
    """Put CloudFormation's reply to the URL that the event brings, which CloudFormation signed."""
    reply = {
        "Status": "SUCCESS" if fault is None else "FAILED",
        "Reason": fault or f"see the log stream {log_stream}",
        "PhysicalResourceId": event.get("PhysicalResourceId", event["LogicalResourceId"]),
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }
    body = json.dumps(reply).encode()
    # The signature covers an empty content type.
    request = urllib.request.Request(event["ResponseURL"], data=body, method="PUT", headers={"Content-Type": ""})
    with urllib.request.urlopen(request, timeout=30):
        pass
