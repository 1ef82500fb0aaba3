"""What a stack is told where the Lambda of its job died of an event, each time that Lambda's own queue tried it.

Not the job's end itself (index.py): this knows only that nobody looked at it, and without a word the stack would wait
for twelve hours. It is that function's destination on failure (AWS Lambda developer guide, "Retain records of
asynchronous invocations"). Standard library and boto3 only.
"""

import importlib
import os
from typing import Any

import boto3

from ..reply import answer, goes_back, state
from .request import found, physical_id, tell


def handler(record: dict[str, Any], _context: Any) -> None:
    """`record` is that of Lambda's: the event in it is a request of CloudFormation's, or the end of a job."""
    work = importlib.import_module(f"{__package__}.{os.environ['KIND']}")
    event, fault = record["requestPayload"], why(record, work.WHAT)
    if "RequestType" in event:  # answered a second time where it died later; CloudFormation takes the first
        leaves = goes_back(state(event["StackId"]))
        answer(event, None if leaves else fault, physical_id(event, work.IDENTITY))
        return
    s3 = boto3.client("s3")
    name = event["ended"] if "ended" in event else work.name_of(event["detail"])
    waiting = found(s3, name)
    if waiting is not None:
        tell(s3, waiting, name, fault, work.IDENTITY)


def why(record: dict[str, Any], what: str) -> str:
    """The sentence, with what the function said last; an event that grew too old has no such word."""
    about, said = record.get("requestContext", {}), record.get("responsePayload")
    word = said.get("errorMessage") if isinstance(said, dict) else None
    tries = about.get("approximateInvokeCount", "several")
    return (
        f"the function that looks after the {what} died, {tries} tries ({about.get('condition', 'unknown')}): "
        f"{word or 'it left no word'}; see its log, and deploy again: what the job made is found"
    )
