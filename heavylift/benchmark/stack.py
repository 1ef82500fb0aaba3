"""The gate's own stack: is it being taken back?

Not its other resources. CloudFormation calls a custom resource also while it rolls back or deletes, and then a red
benchmark would leave the stack in UPDATE_ROLLBACK_FAILED.
"""

from __future__ import annotations

import logging

import boto3
from botocore.exceptions import BotoCoreError, ClientError

logger = logging.getLogger(__name__)


def taken_back(stack: str) -> str | None:
    """The stack's status if it is one of a rollback or a deletion."""
    status: str = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    return status if "ROLLBACK" in status or status.startswith("DELETE") else None


def wanted_no_more(stack: str) -> str | None:
    """The same for a run at work: CloudFormation's own troubles do not end it."""
    try:
        status = taken_back(stack)
    except (BotoCoreError, ClientError):
        logger.exception("the stack's status could not be asked")
        return None
    return None if status is None else f"the stack is {status}"
