"""The Lambda of every long job: starts it for CloudFormation, and answers when it has ended.

Not the jobs: staging.py, image.py, processing.py and training.py know one each. CloudFormation's request waits in the
bucket while the job runs, and EventBridge brings the job's end here; nothing polls. Standard library and boto3 only.
"""

import importlib
import json
import os
from typing import Any

import boto3

from ..reply import answer, goes_back, state


def handler(event: dict[str, Any], context: Any) -> None:
    """A request of CloudFormation, or the end of a job."""
    work = importlib.import_module(f"{__package__}.{os.environ['KIND']}")
    s3 = boto3.client("s3")
    if "detail" in event:
        ended(work.name_of(event["detail"]), work, s3)
        return
    try:
        done, fault = began(event, work, s3)
    except Exception as error:  # an unanswered custom resource holds its stack for an hour
        done, fault = True, f"cannot start the {work.WHAT}: {error}"
    if done:
        answer(event, fault, physical_id(event, work))


def began(event: dict[str, Any], work: Any, s3: Any) -> tuple[bool, str | None]:
    """Whether the request can be answered now, and with which fault; else its job is at work."""
    wanted, stack = event["ResourceProperties"], event["StackId"]
    status = state(stack)
    if event["RequestType"] == "Delete":
        if status.startswith("DELETE"):  # not on a roll-back: the next deployment finds what it makes
            abandon(stack, work, s3)
        return True, None
    if work.ready(wanted) or goes_back(status):  # a stack that goes back is never held up
        return True, None
    name = work.begin(wanted, event["RequestId"])
    s3.put_object(Bucket=os.environ["BUCKET"], Key=key(stack, name), Body=json.dumps(event).encode())
    if work.over(name):  # before the request was put down, so nobody has answered it
        ended(name, work, s3)
    return False, None


def ended(name: str, work: Any, s3: Any) -> None:
    """Answer the request of this stack that waits for the job; of others' jobs there is none."""
    place = {"Bucket": os.environ["BUCKET"], "Key": key(os.environ["STACK"], name)}
    try:
        event = json.loads(s3.get_object(**place)["Body"].read())
    except s3.exceptions.NoSuchKey:
        return
    try:
        fault = work.fault(event["ResourceProperties"], name)
    except Exception as error:
        fault = f"cannot look at what the {work.WHAT} {name} made: {error}"
    answer(event, fault, physical_id(event, work))
    s3.delete_object(**place)


def abandon(stack: str, work: Any, s3: Any) -> None:
    """Stop what a stack that is deleted waits for."""
    bucket, prefix = os.environ["BUCKET"], key(stack, "")
    for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
        work.stop(item["Key"].removeprefix(prefix))
        s3.delete_object(Bucket=bucket, Key=item["Key"])


def physical_id(event: dict[str, Any], work: Any) -> str:
    """What the job makes, by its own name."""
    return str(event["ResourceProperties"].get(work.IDENTITY, event["LogicalResourceId"]))


def key(stack: str, name: str) -> str:
    """Where the request waits: below the last part of its stack's ARN, and its kind."""
    return f"jobs/{stack.rsplit('/', 1)[-1]}/{os.environ['KIND']}/{name}"
