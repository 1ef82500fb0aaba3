"""The Lambda of LiveConfig: does the endpoint serve what was deployed? Standard library and boto3 only."""

from typing import Any

import boto3

from .reply import checked


def handler(event: dict[str, Any], context: Any) -> None:
    """Answer SUCCESS, or FAILED with what serves instead."""
    checked(event, "at the endpoint", lambda properties: other(boto3.client("sagemaker"), properties))


def other(sagemaker: Any, properties: dict[str, Any]) -> str | None:
    """The sentence about what serves instead, or None when it is what was deployed."""
    name, wanted = properties["EndpointName"], properties["EndpointConfigName"]
    found = sagemaker.describe_endpoint(EndpointName=name)
    status, live = found["EndpointStatus"], found["EndpointConfigName"]
    if (status, live) == ("InService", wanted):
        return None
    why = f": {found['FailureReason']}" if "FailureReason" in found else ""
    return f"endpoint {name} is {status} with {live}, not with {wanted}, which was deployed{why}"
