"""The Lambda of every long job: begins it for CloudFormation, and tells it when it has ended.

Not the jobs: staging.py, image.py, processing.py and training.py know one each. The custom resource is answered when
the job is at work; the request waits in the bucket meanwhile, and EventBridge brings the job's end here, which is told
to the stack's wait condition. Nothing polls. Where this function dies of an event, lost.py tells the stack. Standard
library and boto3 only.
"""

import importlib
import json
import os
import time
from typing import Any

import boto3

from ..reply import answer, goes_back, signal, state
from .request import found, key, physical_id, put, tell, told_before
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
        answer(event, fault, physical_id(event, work.IDENTITY))


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
        signal(wanted["Told"], None, physical_id(event, work.IDENTITY))
        return True, None
    name = work.begin(wanted, event["RequestId"])
    put(s3, event, name)
    if work.over(name):  # before the request was put down, so nobody has told
        ended(name, work, s3, context)
    return not told_before(event), None


def ended(name: str, work: Any, s3: Any, context: Any) -> None:
    """Tell the stack that waits for the job, if it is this one; of others' jobs there is no request."""
    event = found(s3, name)
    if event is None:
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
    tell(s3, event, name, fault, work.IDENTITY)


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
