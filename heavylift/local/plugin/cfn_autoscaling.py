"""AWS::ApplicationAutoScaling::ScalableTarget and ::ScalingPolicy for CloudFormation. Not the API: autoscaling.py."""

from __future__ import annotations

from typing import Any

from . import seams
from .autoscaling import AutoScaling
from .errors import ApiError

Properties = dict[str, Any]

_KEY = ("ResourceId", "ScalableDimension", "ServiceNamespace")
"""What a ScalableTarget's physical id consists of, joined by |, as in AWS."""


class AutoScalingTypes:
    """The two types."""

    def __init__(self, autoscaling: AutoScaling) -> None:
        self._autoscaling = autoscaling

    def install(self) -> None:
        """Teach them to CloudFormation."""
        seams.add_type(
            "AWS::ApplicationAutoScaling::ScalableTarget",
            create=lambda logical_id, given, stack: self._register(given),
            update=lambda target, old, new, stack, logical_id: self._register(new, old),
            delete=lambda target, given: self._forget("DeregisterScalableTarget", _key(target)),
            replacing=_KEY,
        )
        seams.add_type(
            "AWS::ApplicationAutoScaling::ScalingPolicy",
            create=lambda logical_id, given, stack: self._put(given),
            update=lambda arn, old, new, stack, logical_id: self._put(new),
            delete=lambda arn, given: self._forget(
                "DeleteScalingPolicy", {**_policy_key(given), "PolicyName": given["PolicyName"]}
            ),
            replacing=("PolicyName", "ScalingTargetId", *_KEY),
        )

    def _register(self, given: Properties, before: Properties | None = None) -> tuple[str, Properties]:
        """With its ScheduledActions, which in the API are things of their own; those of `before` go."""
        key = {part: given[part] for part in _KEY}
        rest = {name: value for name, value in given.items() if name != "ScheduledActions"}
        self._autoscaling.call_with("RegisterScalableTarget", rest)
        for name in _names(before or {}) - _names(given):
            self._forget("DeleteScheduledAction", {**key, "ScheduledActionName": name})
        for each in given.get("ScheduledActions", []):
            self._autoscaling.call_with("PutScheduledAction", {**each, **key})
        target = "|".join(key.values())
        return target, {"Id": target}

    def _put(self, given: Properties) -> tuple[str, Properties]:
        rest = {key: value for key, value in given.items() if key != "ScalingTargetId"}
        arn = self._autoscaling.call_with("PutScalingPolicy", {**rest, **_policy_key(given)})["PolicyARN"]
        return arn, {"Arn": arn, "PolicyName": given["PolicyName"]}

    def _forget(self, operation: str, key: Properties) -> None:
        try:
            self._autoscaling.call(operation, key)
        except ApiError as error:
            if error.code != "ObjectNotFoundException":  # a target takes its policies with it
                raise


def _names(given: Properties) -> set[str]:
    return {each["ScheduledActionName"] for each in given.get("ScheduledActions", [])}


def _key(target: str) -> Properties:
    return dict(zip(_KEY, target.split("|"), strict=True))


def _policy_key(given: Properties) -> Properties:
    if "ScalingTargetId" in given:
        return _key(given["ScalingTargetId"])
    return {part: given[part] for part in _KEY}
