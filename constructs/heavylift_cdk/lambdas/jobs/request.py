"""A request of CloudFormation while its job runs: where in the bucket it waits, and who is told of the job's end.

Not the job. Standard library and boto3 only.
"""

import json
import os
from typing import Any

from ..reply import answer, signal


def key(stack: str, name: str) -> str:
    """Where the request waits: below the last part of its stack's ARN, and its kind."""
    return f"jobs/{stack.rsplit('/', 1)[-1]}/{os.environ['KIND']}/{name}"


def put(s3: Any, event: dict[str, Any], name: str) -> None:
    """Put the request down until the job called `name` ends."""
    s3.put_object(Bucket=os.environ["BUCKET"], Key=key(event["StackId"], name), Body=json.dumps(event).encode())


def found(s3: Any, name: str) -> dict[str, Any] | None:
    """This stack's request that waits for the job; None of a job that other stacks wait for, or nobody any more."""
    try:
        reply = s3.get_object(Bucket=os.environ["BUCKET"], Key=key(os.environ["STACK"], name))
    except s3.exceptions.NoSuchKey:
        return None
    event: dict[str, Any] = json.loads(reply["Body"].read())
    return event


def tell(s3: Any, event: dict[str, Any], name: str, fault: str | None, identity: str) -> None:
    """Tell the stack of the job's end, and take the request away; `identity` is the property that names what is made.

    A process that dies between the two tells again, which CloudFormation does not mind.
    """
    if told_before(event):
        answer(event, fault, physical_id(event, identity))
    else:
        signal(event["ResourceProperties"]["Told"], fault, physical_id(event, identity))
    s3.delete_object(Bucket=os.environ["BUCKET"], Key=key(os.environ["STACK"], name))


def told_before(event: dict[str, Any]) -> bool:
    """The stack's wait condition has had its signal, and waits for no second: what it was told of is gone, and this
    request waits for the job itself."""
    asked, was = event["ResourceProperties"], event.get("OldResourceProperties", {})
    return bool(event["RequestType"] == "Update" and was.get("Told") == asked["Told"])


def physical_id(event: dict[str, Any], identity: str) -> str:
    """What the job makes, by its own name."""
    return str(event["ResourceProperties"].get(identity, event["LogicalResourceId"]))
