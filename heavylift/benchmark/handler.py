"""The Lambda behind Custom::HeavyliftBenchmarkGate: whatever happens, it answers CloudFormation.

Not the benchmark (gate.py). Benchmarks on Create and Update, never on Delete and never while the stack rolls back:
a red gate there would leave the stack in UPDATE_ROLLBACK_FAILED. A run that is longer than one Lambda goes on in
another one, which this one calls: no state machine, whose history would show the ResponseURL, and whose waiter outlives
a cancelled deployment (https://github.com/aws/aws-cdk/issues/31541).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import boto3

from heavylift.benchmark.answer import Answer, send
from heavylift.benchmark.gate import Gate, GateClosed, Leg
from heavylift.benchmark.lease import Given, Lease
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.violation import publish

logger = logging.getLogger(__name__)

LONGEST = 900.0  # seconds that a Lambda may take (AWS Lambda developer guide, "Lambda quotas")
PAUSE = 5.0


class Held(Exception):
    """Another delivery of the same request is still at work; Lambda calls again."""


def handler(event: Mapping[str, Any], context: Any, *, pause: Callable[[float], None] = time.sleep) -> None:
    """Lambda's entry: a request of CloudFormation, or `{"Request", "Leg"}`, the next leg of its benchmark.

    Raises only when the answer could not be delivered, or another delivery holds the request to the end of this one's
    time; Lambda then calls again, with the same RequestId, and the answer that is already there is delivered.
    """
    request, leg = event.get("Request", event), event.get("Leg")
    try:
        answer = decide(request, context, None if leg is None else Leg(**leg), pause)
    except Held:
        raise
    except (GateClosed, FormatError) as error:
        answer = Answer("FAILED", str(error))
    except Exception as error:
        logger.exception("the gate failed")
        answer = Answer("FAILED", f"the benchmark gate failed: {type(error).__name__}: {error}")
    if answer is not None:
        send(request, answer)


def decide(event: Mapping[str, Any], context: Any, leg: Leg | None, pause: Callable[[float], None]) -> Answer | None:
    """The answer to one request of CloudFormation; None where another Lambda will give it."""
    if event["RequestType"] == "Delete":
        return Answer("SUCCESS", "a gate has nothing to delete")
    if status := rolling_back(event["StackId"]):
        if event["RequestType"] == "Update":  # back to the config that passed: an alarm must not outlive its cause
            publish(str(event["ResourceProperties"].get("EndpointName")), "PASS")
        return Answer("SUCCESS", f"no benchmark while the stack is {status}")
    if not (bucket := os.environ.get("REPORTS_BUCKET", "")):
        raise GateClosed("the Lambda's environment has no REPORTS_BUCKET; it must name the bucket for the reports")
    gate = Gate.from_properties(event["ResourceProperties"])
    model, request = gate.benchmark.subject.model, event["RequestId"]
    given = Given(bucket, model, request)
    lease = Lease(bucket, model, request, part=1 if leg is None else leg.number)
    while (answer := given.read()) is None and not lease.take(left := seconds_left(context)):
        if left < 3 * PAUSE:
            raise Held(f"another delivery of {request} is still at work")
        pause(PAUSE)
    if answer is not None:
        return answer
    outcome = gate.run(bucket=bucket, seconds_left=seconds_left(context), leg=leg)
    if isinstance(outcome, Leg):
        lease.extend(gate.benchmark.max_seconds + LONGEST)
        go_on(event, outcome, context)
        return None
    given.write(outcome)
    return outcome


def go_on(event: Mapping[str, Any], leg: Leg, context: Any) -> None:
    """Call this function again, for the next leg."""
    payload = json.dumps({"Request": dict(event), "Leg": leg.to_dict()}).encode()
    boto3.client("lambda").invoke(FunctionName=context.invoked_function_arn, InvocationType="Event", Payload=payload)


def seconds_left(context: Any) -> float:
    """What Lambda leaves this call."""
    return float(context.get_remaining_time_in_millis()) / 1000


def rolling_back(stack: str) -> str | None:
    """The stack's status if it is one of a rollback."""
    status: str = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    return status if "ROLLBACK" in status else None
