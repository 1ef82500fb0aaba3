"""The Lambda behind Custom::HeavyliftBenchmarkGate: whatever happens, it answers CloudFormation.

Not the benchmark (gate.py). Benchmarks on Create and Update, never on Delete and never while the stack rolls back:
a red gate there would leave the stack in UPDATE_ROLLBACK_FAILED.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import boto3
from botocore.exceptions import ClientError

from heavylift.benchmark.answer import Answer, send
from heavylift.benchmark.gate import Gate, GateClosed
from heavylift.benchmark.shape import FormatError

logger = logging.getLogger(__name__)


def handler(event: Mapping[str, Any], context: Any) -> None:
    """Lambda's entry. Raises only when the answer could not be delivered; Lambda then calls again, with the same
    RequestId, and the answer that is already there is delivered."""
    try:
        answer = decide(event, context)
    except (GateClosed, FormatError) as error:
        answer = Answer("FAILED", str(error))
    except Exception as error:
        logger.exception("the gate failed")
        answer = Answer("FAILED", f"the benchmark gate failed: {type(error).__name__}: {error}")
    send(event, answer)


def decide(event: Mapping[str, Any], context: Any) -> Answer:
    """The answer to one request of CloudFormation."""
    if event["RequestType"] == "Delete":
        return Answer("SUCCESS", "a gate has nothing to delete")
    if status := rolling_back(event["StackId"]):
        return Answer("SUCCESS", f"no benchmark while the stack is {status}")
    if not (bucket := os.environ.get("REPORTS_BUCKET", "")):
        raise GateClosed("the Lambda's environment has no REPORTS_BUCKET; it must name the bucket for the reports")
    gate = Gate.from_properties(event["ResourceProperties"])
    given = Given(bucket, gate.benchmark.subject.model, event["RequestId"])
    if (answer := given.read()) is not None:
        return answer
    answer = gate.run(bucket=bucket, seconds_left=context.get_remaining_time_in_millis() / 1000)
    given.write(answer)
    return answer


def rolling_back(stack: str) -> str | None:
    """The stack's status if it is one of a rollback."""
    status: str = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    return status if "ROLLBACK" in status else None


class Given:
    """The answer that was given to a request, kept so that a repeated request does not benchmark twice."""

    def __init__(self, bucket: str, model: str, request: str) -> None:
        # No run's name begins with a dot.
        self._place = {"Bucket": bucket, "Key": f"reports/{model}/.answers/{quote(request, safe='')}.json"}

    def read(self) -> Answer | None:
        try:
            return Answer.from_json(boto3.client("s3").get_object(**self._place)["Body"].read())
        except ClientError as error:
            # Without the right to list the bucket, S3 says AccessDenied of an object that is not there.
            if error.response["Error"]["Code"] in ("NoSuchKey", "AccessDenied"):
                return None
            raise

    def write(self, answer: Answer) -> None:
        boto3.client("s3").put_object(**self._place, Body=answer.to_json().encode())
