"""The Lambda of Staged: starts the staging job for CloudFormation, and answers when the job ends.

Not the job: heavylift.weights.stage. CloudFormation's request waits in the bucket while the job runs, and EventBridge
brings the job's end here; nothing polls. Standard library and boto3 only.
"""

import json
import os
import urllib.request
from typing import Any

import boto3

WAITING = "staging/"
"""Keys of the requests that wait, by their build."""


def handler(event: dict[str, Any], context: Any) -> None:
    """A request of CloudFormation, or the end of a build."""
    if event.get("source") == "aws.codebuild":
        ended(event["detail"], boto3.client("s3"))
        return
    try:
        fault = began(event, boto3.client("s3"), boto3.client("codebuild"))
    except Exception as error:  # an unanswered custom resource holds its stack for an hour
        fault = f"cannot start the staging job: {error}"
    if fault is not None:
        answer(event, None if fault == "" else fault)


def began(event: dict[str, Any], s3: Any, codebuild: Any) -> str | None:
    """None when a build runs for this request; "" when there is nothing to do."""
    wanted = event["ResourceProperties"]
    if event["RequestType"] == "Delete" or complete(s3, wanted["Digest"]):
        return ""
    variables = {"MODEL_ID": wanted["Id"], "REVISION": wanted["Revision"], "DIGEST": wanted["Digest"]}
    build = codebuild.start_build(
        projectName=os.environ["PROJECT"],
        idempotencyToken=event["RequestId"],  # CloudFormation may send a request twice
        environmentVariablesOverride=[{"name": name, "value": value} for name, value in variables.items()],
    )["build"]
    s3.put_object(Bucket=os.environ["BUCKET"], Key=key(build["id"]), Body=json.dumps(event).encode())
    return None


def ended(detail: dict[str, Any], s3: Any) -> None:
    """Answer the request that waits for this build; a build that somebody else started has none."""
    place = {"Bucket": os.environ["BUCKET"], "Key": key(detail["build-id"])}
    try:
        event = json.loads(s3.get_object(**place)["Body"].read())
    except s3.exceptions.NoSuchKey:
        return
    wanted = event["ResourceProperties"]
    logs = detail.get("additional-information", {}).get("logs", {}).get("deep-link", "its log")
    done = detail["build-status"] == "SUCCEEDED" and complete(s3, wanted["Digest"])
    fault = f"the staging of {wanted['Id']} at {wanted['Revision']} is {detail['build-status']}: see {logs}"
    answer(event, None if done else fault)
    s3.delete_object(**place)


def complete(s3: Any, digest: str) -> bool:
    """The manifest, which is written last, is there."""
    manifest = f"weights/{digest}/manifest.json"
    found = s3.list_objects_v2(Bucket=os.environ["BUCKET"], Prefix=manifest, MaxKeys=1).get("Contents", [])
    return [item["Key"] for item in found] == [manifest]


def key(build: str) -> str:
    """Where the request waits; a build's id is project:uuid, of its ARN the end."""
    return f"{WAITING}{build.rsplit('/', 1)[-1].rsplit(':', 1)[-1]}.json"


def answer(event: dict[str, Any], fault: str | None) -> None:
    """Put CloudFormation's reply to the URL that the event brings, which CloudFormation signed."""
    reply = {
        "Status": "SUCCESS" if fault is None else "FAILED",
        "Reason": "" if fault is None else fault,
        "PhysicalResourceId": event["ResourceProperties"].get("Digest", event["LogicalResourceId"]),
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }
    body = json.dumps(reply).encode()
    # The signature covers an empty content type.
    request = urllib.request.Request(event["ResponseURL"], data=body, method="PUT", headers={"Content-Type": ""})
    with urllib.request.urlopen(request, timeout=30):
        pass
