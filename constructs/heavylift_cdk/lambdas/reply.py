"""What our functions behind custom resources share: is the stack on its way back, and CloudFormation's answer.

Not the gate's, whose code is the core's benchmark room. Standard library and boto3 only.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import boto3

MOST_REASON = 2000  # characters: the reply may have 4096 bytes


def checked(event: dict[str, Any], what: str, fault_of: Callable[[dict[str, Any]], str | None]) -> None:
    """Answer SUCCESS, or FAILED with the fault of the resource's properties; `what` is looked for, in a sentence.

    A stack that goes, or goes back to what served before, is never held up.
    """
    try:
        leaving = event["RequestType"] == "Delete" or goes_back(state(event["StackId"]))
        fault = None if leaving else fault_of(event["ResourceProperties"])
    except Exception as error:  # an unanswered custom resource holds its stack until its timeout
        fault = f"cannot look {what}: {error}"
    answer(event, fault, event.get("PhysicalResourceId", event["LogicalResourceId"]))


def state(stack: str) -> str:
    """The stack's status."""
    (found,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return str(found["StackStatus"])


def goes_back(status: str) -> bool:
    """Whether a stack of that status rolls back; a failure now would end in UPDATE_ROLLBACK_FAILED."""
    return "ROLLBACK" in status


def answer(event: dict[str, Any], fault: str | None, physical_id: str) -> None:
    """Put CloudFormation's reply to the URL that the event brings, which CloudFormation signed (its user guide, "Custom
    resource response objects")."""
    reply = {
        "Status": "SUCCESS" if fault is None else "FAILED",
        "Reason": "" if fault is None else fault[:MOST_REASON],
        "PhysicalResourceId": physical_id,
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }
    _put(event["ResponseURL"], reply)


def signal(url: str, fault: str | None, what: str) -> None:
    """Tell a wait condition by its handle's URL (AWS CloudFormation user guide, "Wait condition signal JSON format").
    Nobody listens where its stack has gone back meanwhile."""
    told = {
        "Status": "SUCCESS" if fault is None else "FAILURE",
        "Reason": "made" if fault is None else fault[:MOST_REASON],
        "UniqueId": what,
        "Data": what,
    }
    try:
        _put(url, told)
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise


def _put(url: str, document: dict[str, str]) -> None:
    # The signature covers an empty content type.
    body = json.dumps(document).encode()
    request = urllib.request.Request(url, data=body, method="PUT", headers={"Content-Type": ""})
    with urllib.request.urlopen(request, timeout=30):
        pass
