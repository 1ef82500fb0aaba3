"""Application Auto Scaling's API: targets, policies, schedules are kept and described. Nothing scales here."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from .components import RESOURCE
from .endpoints import Endpoints
from .errors import ApiError, invalid
from .settings import Settings
from .shapes import Shapes

Parameters = dict[str, Any]
Target = tuple[str, str, str]
"""ServiceNamespace, ResourceId, ScalableDimension."""


class AutoScaling:
    """The operations that the embedded AWS knows, by their API name."""

    def __init__(self, settings: Settings, endpoints: Endpoints, components: Endpoints) -> None:
        self._settings = settings
        self._endpoints, self._components = endpoints, components
        self._shapes = Shapes("application-autoscaling")
        self._targets: dict[Target, Parameters] = {}
        self._policies: dict[tuple[Target, str], Parameters] = {}
        self._scheduled: dict[tuple[Target, str], Parameters] = {}
        self._operations: dict[str, Callable[[Parameters], Parameters]] = {
            "RegisterScalableTarget": self._register,
            "DeregisterScalableTarget": self._deregister,
            "DescribeScalableTargets": lambda p: {"ScalableTargets": _chosen(self._targets.values(), p)},
            "PutScalingPolicy": self._put_policy,
            "DeleteScalingPolicy": self._delete_policy,
            "DescribeScalingPolicies": lambda p: {"ScalingPolicies": _chosen(self._policies.values(), p)},
            "PutScheduledAction": self._put_scheduled,
            "DeleteScheduledAction": self._delete_scheduled,
            "DescribeScheduledActions": lambda p: {"ScheduledActions": _chosen(self._scheduled.values(), p)},
        }

    def call(self, operation: str, parameters: Parameters) -> Parameters:
        """Do one operation; ApiError where Application Auto Scaling would refuse."""
        self._shapes.check(operation, parameters)
        if operation not in self._operations:
            raise ApiError("UnknownOperationException", f"the embedded Auto Scaling does not know {operation}")
        return self._operations[operation](parameters)

    def call_with(self, operation: str, properties: Parameters) -> Parameters:
        """The same with CloudFormation's properties."""
        return self.call(operation, self._shapes.coerce(operation, properties))

    def _register(self, given: Parameters) -> Parameters:
        target = _target(given)
        if target not in self._targets and not {"MinCapacity", "MaxCapacity"} <= given.keys():
            raise invalid("a new scalable target needs MinCapacity and MaxCapacity")
        self._check_resource(given)
        arn = self._settings.arn("application-autoscaling", f"scalable-target/{_id(*target)}")
        stored = {"RoleARN": "", "CreationTime": time.time(), "ScalableTargetARN": arn}
        self._targets[target] = {**stored, **self._targets.get(target, {}), **given}
        return {"ScalableTargetARN": arn}

    def _check_resource(self, given: Parameters) -> None:
        """The variant of a real endpoint, or a real inference component; another service's are not checked."""
        if given["ServiceNamespace"] != "sagemaker":
            return
        kind, _, name = given["ResourceId"].partition("/")
        if kind == RESOURCE:
            if self._components.find(name) is None:
                raise invalid(f"ResourceId is {given['ResourceId']!r}; there is no inference component {name!r}")
            return
        named = re.fullmatch(r"endpoint/([^/]+)/variant/([^/]+)", given["ResourceId"])
        endpoint = None if named is None else self._endpoints.find(named[1])
        if named is None or endpoint is None or named[2] not in endpoint.served:
            raise invalid(f"ResourceId is {given['ResourceId']!r}; no such endpoint/NAME/variant/VARIANT serves")

    def _deregister(self, given: Parameters) -> Parameters:
        target = _target(given)
        self._known(target)
        del self._targets[target]
        self._policies = {key: policy for key, policy in self._policies.items() if key[0] != target}
        self._scheduled = {key: action for key, action in self._scheduled.items() if key[0] != target}
        return {}

    def _put_policy(self, given: Parameters) -> Parameters:
        target = _target(given)
        self._known(target)
        name = given["PolicyName"]
        path = f"resource/{target[0]}/{target[1]}:policyName/{name}"
        arn = self._settings.arn("autoscaling", f"scalingPolicy:{_id(*target, name)}:{path}")
        self._policies[target, name] = {**given, "PolicyARN": arn, "CreationTime": time.time(), "Alarms": []}
        return {"PolicyARN": arn, "Alarms": []}

    def _delete_policy(self, given: Parameters) -> Parameters:
        key = (_target(given), given["PolicyName"])
        if key not in self._policies:
            raise ApiError("ObjectNotFoundException", f"No scaling policy found for {'/'.join(key[0])}: {key[1]}")
        del self._policies[key]
        return {}

    def _put_scheduled(self, given: Parameters) -> Parameters:
        target = _target(given)
        self._known(target)
        name = given["ScheduledActionName"]
        before = self._scheduled.get((target, name), {})
        if "Schedule" not in given and not before:
            raise invalid(f"a new scheduled action needs a Schedule: {name}")
        bounds = given.get("ScalableTargetAction", {})
        if before == {} and not bounds:
            raise invalid(f"a new scheduled action needs a ScalableTargetAction: {name}")
        if bounds.get("MinCapacity", 0) > bounds.get("MaxCapacity", float("inf")):
            raise invalid(f"MinCapacity must be at most MaxCapacity: {bounds}")
        path = f"resource/{target[0]}/{target[1]}:scheduledActionName/{name}"
        arn = self._settings.arn("autoscaling", f"scheduledAction:{_id(*target, name)}:{path}")
        made = {"ScheduledActionARN": arn, "CreationTime": time.time()}
        self._scheduled[target, name] = {**made, **before, **given}
        return {}

    def _delete_scheduled(self, given: Parameters) -> Parameters:
        key = (_target(given), given["ScheduledActionName"])
        if key not in self._scheduled:
            raise ApiError("ObjectNotFoundException", f"No scheduled action found for {'/'.join(key[0])}: {key[1]}")
        del self._scheduled[key]
        return {}

    def _known(self, target: Target) -> None:
        if target not in self._targets:
            raise ApiError("ObjectNotFoundException", f"No scalable target registered for {'/'.join(target)}")


def _target(given: Parameters) -> Target:
    return given["ServiceNamespace"], given["ResourceId"], given["ScalableDimension"]


def _id(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "|".join(parts)))


def _chosen(rows: Any, given: Parameters) -> list[Parameters]:
    """The rows of the service, narrowed by what the request names."""
    wanted = {key: given[key] for key in ("ServiceNamespace", "ResourceId", "ScalableDimension") if key in given}
    chosen = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    listed = {"ResourceIds": "ResourceId", "PolicyNames": "PolicyName", "ScheduledActionNames": "ScheduledActionName"}
    for many, one in listed.items():
        if many in given:
            chosen = [row for row in chosen if row[one] in given[many]]
    return chosen
