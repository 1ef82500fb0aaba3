"""A synthesized app under the eyes of others: cdk-nag's AwsSolutions, cfn-lint, botocore's model of each API.

Not rules of ours: those are heavylift_cdk's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cfnlint.api import lint_file

from heavylift.local.plugin.errors import ApiError
from heavylift.local.plugin.shapes import Shapes
from tests.cdk import App, Synthesized, resolve

DIMENSION = "sagemaker:variant:DesiredInstanceCount"
OPERATIONS = {
    "AWS::SageMaker::Model": ("sagemaker", "CreateModel", {"ModelName": "m"}),
    "AWS::SageMaker::EndpointConfig": ("sagemaker", "CreateEndpointConfig", {"EndpointConfigName": "c"}),
    "AWS::SageMaker::Endpoint": ("sagemaker", "UpdateEndpoint", {"EndpointName": "e"}),
    "AWS::SageMaker::InferenceComponent": ("sagemaker", "CreateInferenceComponent", {"InferenceComponentName": "i"}),
    "AWS::ApplicationAutoScaling::ScalableTarget": ("application-autoscaling", "RegisterScalableTarget", {}),
    "AWS::ApplicationAutoScaling::ScalingPolicy": (
        "application-autoscaling",
        "PutScalingPolicy",
        {"ServiceNamespace": "sagemaker", "ResourceId": "r", "ScalableDimension": DIMENSION},
    ),
}
"""What CloudFormation calls for a type: service, operation, and what it names itself."""
APART = ("ScalingTargetId", "ScheduledActions", "Tags")  # what it does not put into that call


def add_nag(app: App) -> None:
    """Let cdk-nag's AwsSolutions pack check the whole app; a finding without a reason ends the synthesis."""
    from aws_cdk import Validations
    from cdk_nag import AwsSolutionsChecks

    Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def nag(synthesized: Synthesized) -> list[Any]:
    """What cdk-nag found without a reason."""
    reports = json.loads((synthesized.folder / "validation-report.json").read_text())["pluginReports"]
    (own,) = [each["violations"] for each in reports if each["pluginName"] == "AwsSolutions"]
    return list(own)


def lint(synthesized: Synthesized, stack: str) -> list[str]:
    """What cfn-lint found, but W3005: the CDK lets a function depend on its role twice, by GetAtt and by DependsOn."""
    found = lint_file(synthesized.folder / f"{stack}.template.json")
    return [str(match) for match in found if match.rule.id != "W3005"]


def of_apis(synthesized: Synthesized, stack: str) -> list[tuple[str, dict[str, Any]]]:
    """Type and properties of a stack's resources that one of OPERATIONS makes."""
    resources = synthesized.json(stack)["Resources"].values()
    return [(each["Type"], each["Properties"]) for each in resources if each["Type"] in OPERATIONS]


def api_faults(resources: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    """Of the requests that CloudFormation makes of types and properties, those that the API would not take."""
    faults, services = [], {name: Shapes(name) for name, _, _ in OPERATIONS.values()}
    for kind, properties in resources:
        service, operation, named = OPERATIONS[kind]
        given = {key: value for key, value in properties.items() if key not in APART}
        given = _plausible(resolve(given)) | named
        asked = [(operation, given)]
        if "DeploymentConfig" in given and operation == "CreateInferenceComponent":
            rollout = {"DeploymentConfig": given.pop("DeploymentConfig")}
            asked.append(("UpdateInferenceComponent", named | rollout))
        for each, parameters in asked:
            try:
                services[service].check(each, services[service].coerce(each, parameters))
            except ApiError as error:
                faults.append(f"{kind}: {error}")
    return faults


def _plausible(value: Any) -> Any:
    """References as `resolve` answers them, where an API wants an ARN or a short name."""
    match value:
        case dict():
            return {key: _named(key, _plausible(each)) for key, each in value.items()}
        case list():
            return [_plausible(each) for each in value]
    return value


def _named(key: str, value: Any) -> Any:
    if isinstance(value, str) and value.startswith("a-"):
        name = value[:63]
        if key == "ExecutionRoleArn":
            return "arn:aws:iam::123456789012:role/a"
        return "arn:aws:sns:eu-west-1:123456789012:a" if key.endswith("Topic") else name
    return value
