"""The Lambda of LiveConfig: does the endpoint serve what was deployed? Standard library and boto3 only."""

import json
import urllib.request
from typing import Any

import boto3


def handler(event: dict[str, Any], context: Any) -> None:
    """Answer SUCCESS, or FAILED with what serves instead. A stack that goes, or goes back, is never held up."""
    try:
        leaving = event["RequestType"] == "Delete" or rolling_back(event["StackId"])
        fault = None if leaving else other(boto3.client("sagemaker"), event["ResourceProperties"])
    except Exception as error:  # an unanswered custom resource holds its stack until its timeout
        fault = f"cannot look at the endpoint: {error}"
    answer(event, fault, context.log_stream_name)


def rolling_back(stack: str) -> bool:
    """Whether the stack is on its way back to what served before; a failure now would end in UPDATE_ROLLBACK_FAILED."""
    (found,) = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return "ROLLBACK" in found["StackStatus"]


def other(sagemaker: Any, properties: dict[str, Any]) -> str | None:
    """The sentence about what serves instead, or None when it is what was deployed."""
    name, wanted = properties["EndpointName"], properties["EndpointConfigName"]
    found = sagemaker.describe_endpoint(EndpointName=name)
    status, live = found["EndpointStatus"], found["EndpointConfigName"]
    if (status, live) == ("InService", wanted):
        return None
    why = f": {found['FailureReason']}" if "FailureReason" in found else ""
    return f"endpoint {name} is {status} with {live}, not with {wanted}, which was deployed{why}"


def answer(event: dict[str, Any], fault: str | None, log: str) -> None:
    """CloudFormation's answer (user guide, "Custom resource response objects")."""
    reply = {
        "Status": "SUCCESS" if fault is None else "FAILED",
        "Reason": f"{fault} (log stream {log})" if fault is not None else "",
        "PhysicalResourceId": event.get("PhysicalResourceId", event["LogicalResourceId"]),
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }
    body = json.dumps(reply).encode()
    # The signature covers an empty content type.
    request = urllib.request.Request(event["ResponseURL"], data=body, method="PUT", headers={"Content-Type": ""})
    with urllib.request.urlopen(request, timeout=30):
        pass
