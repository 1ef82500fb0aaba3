"""AWS::SageMaker::Model, ::EndpointConfig, ::Endpoint and ::InferenceComponent for CloudFormation, over the API.

Every property of the first two is create-only (CloudFormation's resource specification); an update of the others waits
until the new containers are healthy, and fails, which rolls the stack back, when they are not.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from . import seams
from .components import UPDATED
from .endpoints import Endpoints
from .sagemaker import SageMaker

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
    # In the specification the name alone; no operation moves a component to other instances.
    "InferenceComponent": ("InferenceComponentName", "EndpointName", "VariantName"),
}
_UPDATE_ONLY = {
    "Endpoint": ("ExcludeRetainedVariantProperties", "RetainAllVariantProperties", "RetainDeploymentConfig"),
    "InferenceComponent": ("DeploymentConfig", "EndpointArn"),
}


class SageMakerTypes:
    """The four types. A physical id is the resource's ARN, as in AWS."""

    def __init__(self, sagemaker: SageMaker, endpoints: Endpoints, components: Endpoints) -> None:
        self._sagemaker = sagemaker
        self._living = {"Endpoint": endpoints, "InferenceComponent": components}

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
        for kind, update in (("Endpoint", self._update_endpoint), ("InferenceComponent", self._update_component)):
            seams.add_type(
                f"AWS::SageMaker::{kind}",
                create=partial(self._create_living, kind),
                update=update,
                delete=partial(self._delete_living, kind),
                replacing=_REPLACING[kind],
                tagged=True,
                blocks=True,
            )

    def _create(self, kind: str, logical_id: str, given: Properties, stack: str) -> tuple[str, Properties]:
        if kind == "Model":
            _check_containers(given)
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

    def _create_living(self, kind: str, logical_id: str, given: Properties, stack: str) -> tuple[str, Properties]:
        wanted = {key: value for key, value in given.items() if key not in _UPDATE_ONLY[kind]}
        arn, attributes = self._create(kind, logical_id, wanted, stack)
        try:
            self._settle(kind, arn)
        except RuntimeError:
            self._delete_living(kind, arn, given)  # CloudFormation records no resource that failed to be created
            raise
        return arn, attributes

    def _update_endpoint(
        self, arn: str, old: Properties, new: Properties, stack: str, logical_id: str
    ) -> tuple[str, Properties]:
        self._retag("Endpoint", arn, old, new, stack, logical_id)
        if old.get("EndpointConfigName") != new.get("EndpointConfigName"):
            wanted = {key: value for key, value in new.items() if key not in ("EndpointName", "Tags")}
            self._sagemaker.call_with("UpdateEndpoint", {**wanted, "EndpointName": _name(arn)})
            self._settle("Endpoint", arn)
        return _resource("Endpoint", arn)

    def _update_component(
        self, arn: str, old: Properties, new: Properties, stack: str, logical_id: str
    ) -> tuple[str, Properties]:
        kind = "InferenceComponent"
        self._retag(kind, arn, old, new, stack, logical_id)
        wanted = {key: value for key, value in new.items() if key in (*UPDATED, "DeploymentConfig")}
        if any(old.get(key) != value for key, value in wanted.items()):
            self._sagemaker.call_with(f"Update{kind}", {**wanted, f"{kind}Name": _name(arn)})
            self._settle(kind, arn)
        return _resource(kind, arn)

    def _delete_living(self, kind: str, arn: str, given: Properties) -> None:
        self._living[kind].wait(_name(arn))
        self._delete(kind, arn, given)
        self._living[kind].wait(_name(arn))

    def _settle(self, kind: str, arn: str) -> None:
        """Wait until the endpoint, or component, serves what was asked; RuntimeError with the reason where it does
        not."""
        found, shown = self._living[kind].wait(_name(arn)), arn.rsplit(":", 1)[-1].replace("/", " ")
        if found is None:
            raise RuntimeError(f"{shown} was deleted meanwhile")
        if found.failure is not None:
            raise RuntimeError(f"{shown} is {found.status}: {found.failure}")


def _check_containers(given: Properties) -> None:
    """RuntimeError for what the API's containers have and CloudFormation's have not."""
    for container in (given.get("PrimaryContainer", {}), *given.get("Containers", [])):
        if "AdditionalModelDataSources" in container:
            raise RuntimeError("CloudFormation's AWS::SageMaker::Model has no AdditionalModelDataSources; the API has")


def _name(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]


def _resource(kind: str, arn: str) -> tuple[str, Properties]:
    return arn, {f"{kind}Name": _name(arn), f"{kind}Arn": arn, "Id": arn}
