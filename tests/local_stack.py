"""The template of one model for the embedded AWS's tests: Model, EndpointConfig, Endpoint, and a gate where asked.

Not what Heavylift synthesizes: that is stacks/. Not a test.
"""

from __future__ import annotations

from typing import Any

ROLE = "arn:aws:iam::123456789012:role/model"

GATE = """
import json, os, urllib.request
import boto3

def handler(event, context):
    properties = event["ResourceProperties"]
    answer = {"Status": "SUCCESS", "PhysicalResourceId": "gate", "Data": {}}
    try:
        if properties.get("Crash") == "true":
            os._exit(7)
        if event["RequestType"] != "Delete":
            reply = boto3.client("sagemaker-runtime").invoke_endpoint(
                EndpointName=properties["EndpointName"], ContentType="application/json",
                Body=json.dumps({"until": properties["Until"]} if "Until" in properties else {}).encode())
            answer["Data"]["Model"] = json.load(reply["Body"])["model"]
            answer["Data"]["Variable"] = os.environ["REPORTS_BUCKET"]
            answer["Data"]["PythonPath"] = os.environ.get("PYTHONPATH", "none")
            if properties["Limit"] == "missed":
                raise RuntimeError("p90 is 2100 ms, at most 2000 ms; served by " + answer["Data"]["Model"])
    except Exception as error:
        answer.update(Status="FAILED", Reason=str(error))
    body = json.dumps({**answer, **{key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}}).encode()
    urllib.request.urlopen(urllib.request.Request(event["ResponseURL"], data=body, method="PUT"))
"""


def stack(
    endpoint: str,
    environment: dict[str, str],
    *,
    data: str | None = None,
    variant: dict[str, Any] | None = None,
    gate: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A template whose only fixed name is the endpoint's; `gate` are the properties of a custom resource after it."""
    container: dict[str, Any] = {
        "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/m:1",
        "Environment": environment,
    }
    if data is not None:
        source = {"S3Uri": data, "S3DataType": "S3Prefix", "CompressionType": "None"}
        container["ModelDataSource"] = {"S3DataSource": source}
    production = {
        "VariantName": "AllTraffic",
        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InstanceType": "ml.c6i.xlarge",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1,
        "ModelDataDownloadTimeoutInSeconds": 60,
        "ContainerStartupHealthCheckTimeoutInSeconds": 60,
        **(variant or {}),
    }
    resources: dict[str, Any] = {
        "Model": {
            "Type": "AWS::SageMaker::Model",
            "Properties": {"ExecutionRoleArn": ROLE, "PrimaryContainer": container},
        },
        "Config": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {"ProductionVariants": [production]},
        },
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {
                "EndpointName": endpoint,
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
                "Tags": [{"Key": "team", "Value": "models"}],
            },
        },
    }
    outputs = {"EndpointName": {"Value": {"Fn::GetAtt": ["Endpoint", "EndpointName"]}}}
    if gate is not None:
        resources["Function"] = {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Runtime": "python3.12",
                "Handler": "index.handler",
                "Role": ROLE,
                "Timeout": 900,
                "Environment": {"Variables": {"REPORTS_BUCKET": "reports"}},
                "Code": {"ZipFile": GATE},
            },
        }
        resources["Gate"] = {
            "Type": "Custom::Gate",
            "DependsOn": ["Endpoint"],
            "Properties": {
                "ServiceToken": {"Fn::GetAtt": ["Function", "Arn"]},
                "ServiceTimeout": "60",
                "EndpointName": endpoint,
                **gate,
            },
        }
        outputs |= {name: {"Value": {"Fn::GetAtt": ["Gate", name]}} for name in ("Model", "Variable", "PythonPath")}
    return {"Resources": resources, "Outputs": outputs}
