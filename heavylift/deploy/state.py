"""What is up: our stacks and the endpoints they hold, as values and as text.

Not how it came to be. Asks the AWS that the environment names.
"""

from __future__ import annotations

from typing import Any

import boto3

from heavylift.deploy.stacks import FOUNDATION


def state() -> dict[str, Any]:
    """`stacks` and `endpoints`: plain JSON values."""
    cloudformation, sagemaker = boto3.client("cloudformation"), boto3.client("sagemaker")
    found = [
        stack
        for page in cloudformation.get_paginator("describe_stacks").paginate()
        for stack in page["Stacks"]
        if stack["StackName"].startswith("heavylift-")
    ]
    stacks = [{"name": stack["StackName"], "status": stack["StackStatus"]} for stack in found]
    endpoints = []
    for stack in found:
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
        if stack["StackName"] != FOUNDATION and "EndpointName" in outputs:
            endpoints.append(endpoint(sagemaker, outputs["EndpointName"]))
    return {"stacks": sorted(stacks, key=lambda stack: stack["name"]), "endpoints": endpoints}


def endpoint(sagemaker: Any, name: str) -> dict[str, str | None]:
    """One endpoint; its status is `missing` where somebody deleted it without its stack."""
    try:
        described = sagemaker.describe_endpoint(EndpointName=name)
    except sagemaker.exceptions.ClientError as error:
        if "Could not find endpoint" in str(error):
            return {"name": name, "status": "missing", "endpoint_config": None}
        raise
    config = described["EndpointConfigName"]
    return {"name": described["EndpointName"], "status": described["EndpointStatus"], "endpoint_config": config}


def text(found: dict[str, Any]) -> str:
    """The state for a person."""
    embedded, stacks, endpoints = found["embedded_aws"], found["stacks"], found["endpoints"]
    if embedded is None and not stacks:
        return "nothing is up"
    lines = []
    if embedded is not None:
        lines.append(f"embedded AWS  http://localhost:{embedded['port']}  process {embedded['pid']}")
    lines += [f"stack         {stack['name']}  {stack['status']}" for stack in stacks]
    lines += [
        f"endpoint      {each['name']}  {each['status']}  {each['endpoint_config'] or ''}".rstrip()
        for each in endpoints
    ]
    return "\n".join(lines)
