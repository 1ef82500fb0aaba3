"""AWS::SageMaker::Model, ::EndpointConfig and ::Endpoint for CloudFormation, over the same operations as the API.

Every property of the first two is create-only (CloudFormation's resource specification); an Endpoint's update waits
until the new container is healthy, and fails, which rolls the stack back, when it is not.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from . import seams
from .endpoints import Endpoints
from .sagemaker import SageMaker
from .settings import Settings

Properties = dict[str, Any]

_REPLACING = {
    "Model": (
        "ModelName",
        "PrimaryContainer",
        "Containers",
        "ExecutionRoleArn",
        "VpcConfig",
        "EnableNetworkIsolation",
        "InferenceExecutionConfig",
    ),
    "EndpointConfig": (
        "EndpointConfigName",
        "ProductionVariants",
        "ShadowProductionVariants",
        "KmsKeyId",
        "DataCaptureConfig",
        "AsyncInferenceConfig",
        "ExplainerConfig",
        "VpcConfig",
        "ExecutionRoleArn",
        "EnableNetworkIsolation",
    ),
    "Endpoint": ("EndpointName",),
}
_UPDATE_ONLY = ("ExcludeRetainedVariantProperties", "RetainAllVariantProperties", "RetainDeploymentConfig")


class SageMakerTypes:
    """The three types. A physical id is the resource's ARN, as in AWS."""

    def __init__(self, settings: Settings, sagemaker: SageMaker, endpoints: Endpoints) -> None:
        self._settings = settings
        self._sagemaker = sagemaker
        self._endpoints = endpoints

    def install(self) -> None:
        """Teach them to CloudFormation."""
        for kind in ("Model", "EndpointConfig"):
            seams.add_type(
                f"AWS::SageMaker::{kind}",
                create=partial(self._create, kind),
                update=partial(self._retag, kind),
                delete=partial(self._delete, kind),
                replacing=_REPLACING[kind],
                tagged=True,
            )
        seams.add_type(
            "AWS::SageMaker::Endpoint",
            create=self._create_endpoint,
            update=self._update_endpoint,
            delete=self._delete_endpoint,
            replacing=_REPLACING["Endpoint"],
            tagged=True,
            blocks=True,
        )

    def _create(self, kind: str, logical_id: str, given: Properties, stack: str) -> tuple[str, Properties]:
        name = given.get(f"{kind}Name") or seams.physical_name(stack, logical_id)
        created = self._sagemaker.call_with(f"Create{kind}", {**given, f"{kind}Name": name})
        return _resource(kind, created[f"{kind}Arn"])

    def _retag(
        self, kind: str, arn: str, old: Properties, new: Properties, stack: str, logical_id: str
    ) -> tuple[str, Properties]:
        gone = {tag["Key"] for tag in old.get("Tags", [])} - {tag["Key"] for tag in new.get("Tags", [])}
        if gone:
            self._sagemaker.call("DeleteTags", {"ResourceArn": arn, "TagKeys": sorted(gone)})
        if new.get("Tags"):
            self._sagemaker.call("AddTags", {"ResourceArn": arn, "Tags": new["Tags"]})
        return _resource(kind, arn)

    def _delete(self, kind: str, arn: str, given: Properties) -> None:
        if self._sagemaker.has(kind, _name(arn)):  # what somebody else deleted is deleted, as in AWS
            self._sagemaker.call(f"Delete{kind}", {f"{kind}Name": _name(arn)})

    def _create_endpoint(self, logical_id: str, given: Properties, stack: str) -> tuple[str, Properties]:
        wanted = {key: value for key, value in given.items() if key not in _UPDATE_ONLY}
        arn, attributes = self._create("Endpoint", logical_id, wanted, stack)
        try:
            self._settle(arn)
        except RuntimeError:
            self._delete_endpoint(arn, given)  # CloudFormation records no resource that failed to be created
            raise
        return arn, attributes

    def _update_endpoint(
        self, arn: str, old: Properties, new: Properties, stack: str, logical_id: str
    ) -> tuple[str, Properties]:
        self._retag("Endpoint", arn, old, new, stack, logical_id)
        if old.get("EndpointConfigName") != new.get("EndpointConfigName"):
            wanted = {key: value for key, value in new.items() if key not in ("EndpointName", "Tags")}
            self._sagemaker.call_with("UpdateEndpoint", {**wanted, "EndpointName": _name(arn)})
            self._settle(arn)
        return _resource("Endpoint", arn)

    def _delete_endpoint(self, arn: str, given: Properties) -> None:
        self._endpoints.wait(_name(arn))
        self._delete("Endpoint", arn, given)
        self._endpoints.wait(_name(arn))

    def _settle(self, arn: str) -> None:
        """Wait until the endpoint serves what was asked; RuntimeError with the reason where it does not."""
        endpoint = self._endpoints.wait(_name(arn))
        if endpoint is None:
            raise RuntimeError(f"endpoint {_name(arn)} was deleted meanwhile")
        if endpoint.failure is not None:
            raise RuntimeError(f"endpoint {_name(arn)} is {endpoint.status}: {endpoint.failure}")


def _name(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]


def _resource(kind: str, arn: str) -> tuple[str, Properties]:
    return arn, {f"{kind}Name": _name(arn), f"{kind}Arn": arn, "Id": arn}
