"""The Lambda of every long job: begins it for CloudFormation, and tells it when it has ended.

Not the jobs: staging.py, image.py, processing.py and training.py know one each. The custom resource is answered when
the job is at work; the request waits in the bucket meanwhile, and EventBridge brings the job's end here, which is told
to the stack's wait condition. Nothing polls. Standard library and boto3 only.
"""

import importlib
import json
import os
import time
from typing import Any

import boto3

from ..reply import answer, goes_back, signal, state
from .unfinished import Unfinished

RESERVE_SECONDS = 120  # of a Lambda's time: what one file's copy may take beyond what was left


def handler(event: dict[str, Any], context: Any) -> None:
    """A request of CloudFormation, the end of a job, or (`{"ended": name}`) what this function left to itself."""
    work = importlib.import_module(f"{__package__}.{os.environ['KIND']}")
    s3 = boto3.client("s3")
    if "detail" in event or "ended" in event:
        ended(event["ended"] if "ended" in event else work.name_of(event["detail"]), work, s3, context)
        return
    try:
        done, fault = began(event, work, s3, context)
    except Exception as error:  # an unanswered custom resource holds its stack for an hour
        done, fault = True, f"cannot {'stop' if event['RequestType'] == 'Delete' else 'start'} the {work.WHAT}: {error}"
    if done:
        answer(event, fault, physical_id(event, work))


def began(event: dict[str, Any], work: Any, s3: Any, context: Any) -> tuple[bool, str | None]:
    """Whether the request can be answered now, and with which fault."""
    wanted, stack = event["ResourceProperties"], event["StackId"]
    status = state(stack)
    if event["RequestType"] == "Delete":
        if status.startswith("DELETE"):  # not on a roll-back: the next deployment finds what it makes
            abandon(stack, work, s3)
        return True, None
    if goes_back(status):  # a stack that goes back is never held up
        return True, None
    if work.ready(wanted):
        signal(wanted["Told"], None, physical_id(event, work))
        return True, None
    name = work.begin(wanted, event["RequestId"])
    s3.put_object(Bucket=os.environ["BUCKET"], Key=key(stack, name), Body=json.dumps(event).encode())
    if work.over(name):  # before the request was put down, so nobody has told
        ended(name, work, s3, context)
    return not told_before(event), None


def told_before(event: dict[str, Any]) -> bool:
    """The stack's wait condition has had its signal, and waits for no second: what it was told of is gone, and this
    request waits for the job itself."""
    asked, was = event["ResourceProperties"], event.get("OldResourceProperties", {})
    return bool(event["RequestType"] == "Update" and was.get("Told") == asked["Told"])


def ended(name: str, work: Any, s3: Any, context: Any) -> None:
    """Tell the stack that waits for the job, if it is this one; of others' jobs there is no request."""
    place = {"Bucket": os.environ["BUCKET"], "Key": key(os.environ["STACK"], name)}
    try:
        event = json.loads(s3.get_object(**place)["Body"].read())
    except s3.exceptions.NoSuchKey:
        return
    until = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
    try:
        fault = work.fault(event["ResourceProperties"], name, until)
    except Unfinished:
        again = json.dumps({"ended": name}).encode()
        arn = context.invoked_function_arn
        boto3.client("lambda").invoke(FunctionName=arn, InvocationType="Event", Payload=again)
        return
    except Exception as error:
        fault = f"cannot look at what the {work.WHAT} {name} made: {error}"
    if told_before(event):
        answer(event, fault, physical_id(event, work))
    else:
        signal(event["ResourceProperties"]["Told"], fault, physical_id(event, work))
    s3.delete_object(**place)


def abandon(stack: str, work: Any, s3: Any) -> None:
    """Stop what a stack that is deleted waits for."""
    bucket, prefix = os.environ["BUCKET"], key(stack, "")
    for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
        name = item["Key"].removeprefix(prefix)
        try:
            work.stop(name)
        except Exception:  # of a job that has ended a moment ago, or one that goes on and costs
            if not work.over(name):
                raise
        s3.delete_object(Bucket=bucket, Key=item["Key"])


def physical_id(event: dict[str, Any], work: Any) -> str:
    """What the job makes, by its own name."""
    return str(event["ResourceProperties"].get(work.IDENTITY, event["LogicalResourceId"]))


def key(stack: str, name: str) -> str:
    """Where the request waits: below the last part of its stack's ARN, and its kind."""
    return f"jobs/{stack.rsplit('/', 1)[-1]}/{os.environ['KIND']}/{name}"
