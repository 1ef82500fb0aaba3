"""What CloudFormation says of our stacks: status, outputs, and why the last operation failed.

Not the changing of stacks: the CDK CLI does that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from heavylift.errors import DeployError

FOUNDATION = "heavylift-foundation"
TOOLKIT = "CDKToolkit"


STUCK = ("ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
"""Statuses in which a stack can only be deleted; CloudFormation user guide, "Stack status codes"."""


def way_out(status: str, name: str) -> str | None:
    """What to do about a stack that takes no deployment any more; None where the next one is welcome."""
    if status == "UPDATE_ROLLBACK_FAILED":
        return (
            f"{name} could not go back to its old state and takes no update: mend what the reasons name, then "
            f"`aws cloudformation continue-update-rollback --stack-name {name}`; or `heavylift destroy` and deploy anew"
        )
    if status in STUCK:
        return f"{name} is {status} and can only be removed: `heavylift destroy` with the same file, then deploy anew"
    return None


def foundation_id(account: str | None, region: str | None) -> str:
    """The foundation's id in the app: there is one for each account and region, all of the same stack name."""
    return "-".join([FOUNDATION, *(part for part in (account, region) if part is not None)])


def serving(name: str) -> str:
    """The name of a model's serving stack."""
    return f"heavylift-{name}"


def benchmark(name: str) -> str:
    """The name of the stack that measures a model's endpoint apart from deployments."""
    return f"{serving(name)}-benchmark"


@dataclass(frozen=True)
class Stack:
    """One stack as DescribeStacks shows it."""

    name: str
    status: str
    outputs: dict[str, str]


def describe(cloudformation: Any, name: str) -> Stack | None:
    """The stack, or None if there is none."""
    try:
        found = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except cloudformation.exceptions.ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    return Stack(name, found["StackStatus"], outputs)


def failures(cloudformation: Any, name: str) -> list[str]:
    """`<logical id>: <reason>` of every resource that failed in the last operation, first failure first."""
    reasons: list[str] = []
    if describe(cloudformation, name) is None:
        return reasons
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=name):
        for event in page["StackEvents"]:  # newest first
            status, is_stack = event.get("ResourceStatus", ""), event["LogicalResourceId"] == name
            if is_stack and status in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "REVIEW_IN_PROGRESS"):
                return reasons[::-1]
            reason = event.get("ResourceStatusReason", "")
            if status.endswith("_FAILED") and not is_stack and "cancelled" not in reason.lower():
                reasons.append(f"{event['LogicalResourceId']}: {reason}")
    return reasons[::-1]


def settled(cloudformation: Any, name: str, *, seconds: float = 900.0) -> Stack | None:
    """Wait until no operation is in progress; the stack, or None if it is gone. DeployError after `seconds`."""
    deadline = time.monotonic() + seconds
    while (stack := describe(cloudformation, name)) is not None and stack.status.endswith("_IN_PROGRESS"):
        if time.monotonic() > deadline:
            raise DeployError(f"{name} is still {stack.status} after {seconds:.0f} s")
        time.sleep(0.5)
    return stack
