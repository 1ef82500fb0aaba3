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
from heavylift.benchmark.gate import RESERVE, STAGED, Gate, Leg, Shared, undone
from heavylift.benchmark.generators import Share, gathered, generate, start
from heavylift.benchmark.lease import Given, Lease
from heavylift.benchmark.loop import TakenBack
from heavylift.benchmark.outcome import NONE
from heavylift.benchmark.shape import FormatError
from heavylift.benchmark.stack import taken_back, wanted_no_more
from heavylift.benchmark.stage import GateClosed
from heavylift.benchmark.violation import publish

logger = logging.getLogger(__name__)

CLOUDFORMATION_WAITS = 3600.0  # seconds at most (AWS CloudFormation template reference, CustomResource)
PAUSE = 5.0


class Held(Exception):
    """Another delivery of the same request is still at work; Lambda calls again."""


def handler(event: Mapping[str, Any], context: Any, *, pause: Callable[[float], None] = time.sleep) -> None:
    """Lambda's entry: a request of CloudFormation; or `{"Request", "Leg"}`, the next leg of its benchmark; or, from the
    state machine, `{"Share", "Generator"}`, one generator's part, and at the end `{"Share"}`, with an `Error` or not.

    Raises only when the answer could not be delivered, or another delivery holds the request to the end of this one's
    time; Lambda then calls again, with the same RequestId, and the answer that is already there is delivered.
    """
    if "Generator" in event:
        bucket, left = os.environ["REPORTS_BUCKET"], seconds_left(context)
        generate(Share(**event["Share"]), int(event["Generator"]), bucket, left - RESERVE)
        return
    leg = event.get("Leg")
    share = Share(**event["Share"]) if "Share" in event else None
    request = event.get("Request", event) if share is None else share.event(os.environ["REPORTS_BUCKET"])
    answer: Answer | None
    try:
        if share is not None:
            answer = merged(share, event.get("Error"), request, context, pause)
        else:
            answer = decide(request, context, None if leg is None else Leg(**leg), pause)
    except Held:
        raise
    except TakenBack as error:
        answer = Answer("SUCCESS", f"no benchmark any more: {error}")
    except (GateClosed, FormatError) as error:
        answer = Answer("FAILED", str(error))
    except Exception as error:
        logger.exception("the gate failed")
        answer = Answer("FAILED", f"the benchmark gate failed: {type(error).__name__}: {error}")
    if answer is not None:
        send(request, answer)


def decide(event: Mapping[str, Any], context: Any, leg: Leg | None, pause: Callable[[float], None]) -> Answer | None:
    """The answer to one request of CloudFormation; None where another Lambda will give it."""
    properties, stack = event["ResourceProperties"], event["StackId"]
    if event["RequestType"] == "Delete":
        clean(event, context, pause)
        return Answer("SUCCESS", "what the gate made is deleted")
    if status := taken_back(stack):
        clean(event, context, pause)
        if event["RequestType"] == "Update":  # back to the config that passed: an alarm must not outlive its cause
            publish(str(properties.get("EndpointName")), "PASS")
        return Answer("SUCCESS", f"no benchmark while the stack is {status}")
    if not (bucket := os.environ.get("REPORTS_BUCKET", "")):
        raise GateClosed("the Lambda's environment has no REPORTS_BUCKET; it must name the bucket for the reports")
    gate = Gate.from_properties(properties)
    before = properties.get("Before")
    if before not in (None, NONE):
        return gate.promoted(str(before), str(properties.get("BeforeReport")))
    model, request = gate.benchmark.subject.model, event["RequestId"]
    given = Given(bucket, model, request)
    lease = Lease(bucket, model, request, part=1 if leg is None else leg.part)
    while (answer := given.read()) is None and not lease.take(left := seconds_left(context)):
        if left < 3 * PAUSE:
            raise Held(f"another delivery of {request} is still at work")
        pause(PAUSE)
    if answer is not None:
        return answer
    gate = gate.measuring(properties)
    outcome = gate.run(
        bucket=bucket,
        seconds_left=seconds_left(context),
        leg=leg,
        taken_back=lambda: wanted_no_more(stack),
        pause=pause,
    )
    if isinstance(outcome, Leg):
        lease.extend(CLOUDFORMATION_WAITS)
        go_on(event, outcome, context)
        return None
    if isinstance(outcome, Shared):
        lease.extend(CLOUDFORMATION_WAITS)
        start(event, gate, outcome, bucket)
        return None
    given.write(outcome)
    return outcome


def merged(
    share: Share, failed: Any, request: Mapping[str, Any], context: Any, pause: Callable[[float], None]
) -> Answer:
    """The answer to a request whose load several Lambdas have made; `failed` is what stopped one of them, or None."""
    properties, bucket = request["ResourceProperties"], os.environ["REPORTS_BUCKET"]
    gate = Gate.from_properties(properties).measuring(properties)
    given = Given(bucket, gate.benchmark.subject.model, request["RequestId"])
    if (answer := given.read()) is not None:
        return answer
    stage, deadline = gate.stage(), time.monotonic() + seconds_left(context) - 3 * PAUSE
    try:
        if (reason := wanted_no_more(request["StackId"])) is not None:
            raise TakenBack(reason)
        if failed is not None:
            told = json.dumps(failed)[:1000]
            raise GateClosed(f"a generator failed, and less than the load was offered: {told}")
        answer = gate.concluded(gathered(share, gate, bucket), bucket, stage, deadline, pause)
    except BaseException:
        undone(stage, deadline, pause)
        raise
    given.write(answer)
    return answer


def clean(event: Mapping[str, Any], context: Any, pause: Callable[[float], None]) -> None:
    """Undo what this gate, or the one that is rolled back, made to measure before the endpoint."""
    for key in ("ResourceProperties", "OldResourceProperties"):
        properties = event.get(key, {})
        if properties.get("Strategy") in STAGED and "Before" not in properties:
            stage = STAGED[properties["Strategy"]](properties["EndpointName"], properties["EndpointConfigName"])
            undone(stage, time.monotonic() + seconds_left(context) - 3 * PAUSE, pause)


def go_on(event: Mapping[str, Any], leg: Leg, context: Any) -> None:
    """Call this function again, for the next leg."""
    payload = json.dumps({"Request": dict(event), "Leg": leg.to_dict()}).encode()
    boto3.client("lambda").invoke(FunctionName=context.invoked_function_arn, InvocationType="Event", Payload=payload)


def seconds_left(context: Any) -> float:
    """What Lambda leaves this call."""
    return float(context.get_remaining_time_in_millis()) / 1000
