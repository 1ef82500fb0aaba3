"""The SageMaker SDK's Endpoint (v3, which has no predictors) on an endpoint, as its users write it. Own interpreter.

`sagemaker_endpoint.py ENDPOINT PROMPT`, with AWS_ENDPOINT_URL: prints one JSON object of what it answered.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3
from sagemaker.core.resources import Endpoint
from sagemaker.core.utils.utils import SageMakerClient


def main(name: str, prompt: str) -> None:
    """Ask in each way."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    endpoint = Endpoint.get(endpoint_name=name, session=session, region="us-east-1")
    given: dict[str, Any] = {"content_type": "application/json", "session": session, "region": "us-east-1"}
    asked = {"inputs": prompt, "parameters": {"max_new_tokens": 40, "details": True}}
    whole = endpoint.invoke(body=json.dumps(asked), **given)
    try:
        stream: Any = endpoint.invoke_with_response_stream(body=json.dumps({**asked, "stream": True}), **given).body
    except AttributeError:  # 3.27.0 takes every stream for a dictionary; its own client has it nevertheless
        client = SageMakerClient(session, "us-east-1").sagemaker_runtime_client
        stream = client.invoke_endpoint_with_response_stream(
            EndpointName=name, ContentType="application/json", Body=json.dumps({**asked, "stream": True})
        )["Body"]
    lines = b"".join(event["PayloadPart"]["Bytes"] for event in stream).splitlines()
    print(
        json.dumps(
            {
                "status": endpoint.endpoint_status,
                "one": json.loads(whole.body.read()),
                "stream": [json.loads(line) for line in lines],
            }
        )
    )


main(*sys.argv[1:])
