"""Where a new model is measured: in its place, on a staging endpoint, or as a dark variant beside the old one.

Not the measuring (gate.py). A stage is asked again and again until it is ready, by one Lambda after the other: all that
it knows is what SageMaker says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import boto3
from botocore.exceptions import ClientError

IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


class GateClosed(Exception):
    """The endpoint cannot be benchmarked; the message says why."""


@dataclass(frozen=True)
class Place:
    """What is invoked: an endpoint, or one variant of it, and the config that it must have meanwhile."""

    endpoint: str
    config: str
    variant: str | None = None

    def __str__(self) -> str:
        return self.endpoint if self.variant is None else f"{self.endpoint}/{self.variant}"


class Stage(Protocol):
    """One way to measure a model before its users meet it."""

    place: Place

    def ready(self) -> bool:
        """Whether the place can be measured, or at least another step towards that was taken. Raises GateClosed where
        it never will be."""
        ...

    def promote(self) -> bool:
        """The model may serve: take the next step; whether all is done."""
        ...

    def undo(self) -> bool:
        """The model must not serve: take the next step back to what was before; whether all is done."""
        ...


class InPlace:
    """The deployed endpoint itself, or one of its inference components, whose users have the model already."""

    def __init__(self, endpoint: str, config: str, component: str | None = None, model: str | None = None) -> None:
        """`model`: the Model that the component must have, where that is known."""
        self.place, self._component, self._model = Place(endpoint, config), component, model

    def ready(self) -> bool:
        assert_deployed(self.place)
        if self._component is not None:
            assert_in_service(self._component, self.place.endpoint, self._model)
        return True

    def promote(self) -> bool:
        return True

    def undo(self) -> bool:
        return True


def assert_deployed(place: Place) -> None:
    """SageMaker may be InService again on the old config after an update that failed: that is not ours to pass."""
    found = described(place.endpoint)
    if found is None:
        raise GateClosed(f"there is no endpoint {place.endpoint}; nothing was benchmarked")
    status, config = found["EndpointStatus"], found["EndpointConfigName"]
    if status != "InService":
        raise GateClosed(f"the endpoint {place.endpoint} is {status}, not InService; nothing was benchmarked")
    if config != place.config:
        raise GateClosed(
            f"the endpoint {place.endpoint} is InService with the config {config}, not with {place.config}, "
            "which was deployed; nothing was benchmarked"
        )


def assert_in_service(component: str, endpoint: str, model: str | None) -> None:
    """An update that failed leaves a component InService with its old copies: of the old Model, with a reason."""
    try:
        found = boto3.client("sagemaker").describe_inference_component(InferenceComponentName=component)
    except ClientError as error:
        if absent(error):
            raise GateClosed(f"there is no inference component {component}; nothing was benchmarked") from None
        raise
    status, host = found["InferenceComponentStatus"], found["EndpointName"]
    if host != endpoint:
        raise GateClosed(
            f"the inference component {component} is on {host}, not on {endpoint}; nothing was benchmarked"
        )
    if status != "InService" or found.get("FailureReason"):
        why = found.get("FailureReason", "no reason is given")
        raise GateClosed(f"the inference component {component} is {status} ({why}); nothing was benchmarked")
    live = found.get("Specification", {}).get("ModelName")
    if model is not None and live != model:
        raise GateClosed(
            f"the inference component {component} has the Model {live}, not {model}, which was deployed; nothing was "
            "benchmarked"
        )


def replaces(endpoint: str, config: str) -> bool:
    """Whether there is an endpoint that serves something else than `config`: only then are there users to protect."""
    found = described(endpoint)
    return found is not None and found["EndpointStatus"] != "Failed" and found["EndpointConfigName"] != config


def described(endpoint: str) -> dict[str, Any] | None:
    """DescribeEndpoint's answer; None where there is no such endpoint."""
    try:
        found: dict[str, Any] = boto3.client("sagemaker").describe_endpoint(EndpointName=endpoint)
    except ClientError as error:
        if absent(error):
            return None
        raise
    return found


def absent(error: ClientError) -> bool:
    """SageMaker says of what is not there that the request is not valid."""
    told = error.response["Error"]
    return told.get("Code") == "ValidationException" and "could not find" in told.get("Message", "").lower()
