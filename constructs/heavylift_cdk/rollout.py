"""Rollout: how an update reaches the traffic, how long it is watched, and what takes it back.

Not the alarms (alarms.py) nor the benchmark afterwards (the gate). Limits:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeploymentConfig.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aws_cdk import aws_sagemaker as sagemaker

from heavylift_cdk.bounds import between

Endpoint = sagemaker.CfnEndpoint
Component = sagemaker.CfnInferenceComponent

Size = int | str
"""A number of instances (or copies), or a share of them: 2, "25%"."""
Strategy = Literal["all_at_once", "canary", "linear", "rolling"]

SHARES: dict[str, tuple[int, int]] = {"canary": (1, 50), "linear": (10, 50), "rolling": (5, 50)}
"""The least and the greatest step, in percent of the fleet."""
NOT_RETAINED = ("DesiredWeight", "DataCaptureConfig")
"""Of what RetainAllVariantProperties keeps, what an update takes from its configuration all the same: only the counts
are scaling's to say (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_VariantProperty.html)."""


@dataclass(frozen=True)
class Rollout:
    """Make one with a named constructor. Times in seconds.

    `alarms` are CloudWatch names; one that goes off takes the update back. `retain` keeps instance counts that scaling
    has come to.
    """

    strategy: Strategy
    size: Size | None
    wait: int
    alarms: tuple[str, ...] = ()
    termination_wait: int = 0
    max_execution_timeout: int | None = None
    rollback_size: Size | None = None
    retain: bool = True

    @classmethod
    def all_at_once(
        cls, *, wait: int = 0, termination_wait: int = 0, alarms: tuple[str, ...] = (), timeout: int | None = None,
        retain: bool = True,
    ) -> Rollout:  # fmt: skip
        """All traffic to a new fleet once it is healthy; alarms are watched for `wait`."""
        return cls("all_at_once", None, wait, alarms, termination_wait, timeout, None, retain)

    @classmethod
    def canary(
        cls, size: Size, *, wait: int, termination_wait: int = 0, alarms: tuple[str, ...] = (),
        timeout: int | None = None, retain: bool = True,
    ) -> Rollout:  # fmt: skip
        """`size` of the new fleet first; all after `wait`."""
        return cls("canary", size, wait, alarms, termination_wait, timeout, None, retain)

    @classmethod
    def linear(
        cls, size: Size, *, wait: int, termination_wait: int = 0, alarms: tuple[str, ...] = (),
        timeout: int | None = None, retain: bool = True,
    ) -> Rollout:  # fmt: skip
        """In steps of `size`, with `wait` after each."""
        return cls("linear", size, wait, alarms, termination_wait, timeout, None, retain)

    @classmethod
    def rolling(
        cls, size: Size, *, wait: int, rollback_size: Size | None = None, alarms: tuple[str, ...] = (),
        timeout: int | None = None, retain: bool = True,
    ) -> Rollout:  # fmt: skip
        """Old instances replaced in batches of `size`, without a second fleet."""
        return cls("rolling", size, wait, alarms, 0, timeout, rollback_size, retain)

    def faults(self, count: int | None = None) -> Iterator[str]:
        """What SageMaker would refuse, for a fleet of `count` instances at first where that is known."""
        yield from between("wait", self.wait, 0, 3600)
        yield from between("termination_wait", self.termination_wait, 0, 3600)
        yield from between("max_execution_timeout", self.max_execution_timeout, 600, 28_800)
        yield from between("alarms", len(self.alarms), 0, 10)
        for what, size in (("size", self.size), ("rollback_size", self.rollback_size)):
            yield from self._size_faults(what, size, count)
        if count == 1 and self.strategy != "all_at_once":
            yield f"a {self.strategy} roll-out needs two instances or more, of which it takes a part: got 1"
        waits, most = self._waits(count), self.max_execution_timeout
        if most is not None and most <= waits:
            yield f"'max_execution_timeout' must be more than all waits together, {waits} s: got {most}"

    def _size_faults(self, what: str, size: Size | None, count: int | None) -> Iterator[str]:
        if size is None:
            return
        least, most = SHARES[self.strategy] if what == "size" else (1, 100)
        if isinstance(size, int):
            yield from between(what, size, 1, 1_000_000)
            if count is not None and count > 1 and not least * count <= 100 * size <= most * count:
                allowed = f"{least} to {most} % of {count} instances"
                yield f"'{what}' of a {self.strategy} roll-out must be {allowed}: got {size}"
        elif re.fullmatch(r"[1-9]\d{0,2}%", size) is None:
            yield f"'{what}' must be a number of instances or a share such as '25%': got '{size}'"
        else:
            yield from between(f"{what} of a {self.strategy} roll-out, in percent", int(size[:-1]), least, most)

    def _waits(self, count: int | None) -> int:
        """All waits together, in seconds, as far as the number of steps is known."""
        if self.strategy not in ("linear", "rolling"):
            return self.wait + self.termination_wait
        share = self.size if isinstance(self.size, int) else None
        percent = int(self.size[:-1]) if isinstance(self.size, str) and self.size[:-1].isdigit() else 0
        steps = -(-count // share) if share and count else -(-100 // percent) if percent else 1
        return steps * self.wait + self.termination_wait

    def not_retained(self) -> list[sagemaker.CfnEndpoint.VariantPropertyProperty] | None:
        """The Endpoint's ExcludeRetainedVariantProperties."""
        if not self.retain:
            return None
        return [Endpoint.VariantPropertyProperty(variant_property_type=each) for each in NOT_RETAINED]

    def render(self) -> sagemaker.CfnEndpoint.DeploymentConfigProperty:
        """The Endpoint's property."""
        rollback = None
        if self.alarms:
            rollback = Endpoint.AutoRollbackConfigProperty(
                alarms=[Endpoint.AlarmProperty(alarm_name=name) for name in self.alarms]
            )
        if self.strategy == "rolling":
            assert self.size is not None
            policy = Endpoint.RollingUpdatePolicyProperty(
                maximum_batch_size=_size(self.size),
                wait_interval_in_seconds=self.wait,
                maximum_execution_timeout_in_seconds=self.max_execution_timeout,
                rollback_maximum_batch_size=None if self.rollback_size is None else _size(self.rollback_size),
            )
            return Endpoint.DeploymentConfigProperty(auto_rollback_configuration=rollback, rolling_update_policy=policy)
        routing = Endpoint.TrafficRoutingConfigProperty(
            type=self.strategy.upper(),
            wait_interval_in_seconds=self.wait,
            canary_size=_size(self.size) if self.strategy == "canary" and self.size is not None else None,
            linear_step_size=_size(self.size) if self.strategy == "linear" and self.size is not None else None,
        )
        blue_green = Endpoint.BlueGreenUpdatePolicyProperty(
            traffic_routing_configuration=routing,
            termination_wait_in_seconds=self.termination_wait,
            maximum_execution_timeout_in_seconds=self.max_execution_timeout,
        )
        return Endpoint.DeploymentConfigProperty(
            auto_rollback_configuration=rollback, blue_green_update_policy=blue_green
        )

    def render_copies(self) -> sagemaker.CfnInferenceComponent.InferenceComponentDeploymentConfigProperty:
        """An inference component's property; it knows rolling updates only."""
        assert self.strategy == "rolling" and self.size is not None, "refused by InferenceComponent"
        return Component.InferenceComponentDeploymentConfigProperty(
            auto_rollback_configuration=Component.AutoRollbackConfigurationProperty(
                alarms=[Component.AlarmProperty(alarm_name=name) for name in self.alarms]
            )
            if self.alarms
            else None,
            rolling_update_policy=Component.InferenceComponentRollingUpdatePolicyProperty(
                maximum_batch_size=_copies(self.size),
                wait_interval_in_seconds=self.wait,
                maximum_execution_timeout_in_seconds=self.max_execution_timeout,
                rollback_maximum_batch_size=None if self.rollback_size is None else _copies(self.rollback_size),
            ),
        )


def _size(size: Size) -> sagemaker.CfnEndpoint.CapacitySizeProperty:
    if isinstance(size, int):
        return Endpoint.CapacitySizeProperty(type="INSTANCE_COUNT", value=size)
    return Endpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=int(size[:-1]))


def _copies(size: Size) -> sagemaker.CfnInferenceComponent.InferenceComponentCapacitySizeProperty:
    if isinstance(size, int):
        return Component.InferenceComponentCapacitySizeProperty(type="COPY_COUNT", value=size)
    return Component.InferenceComponentCapacitySizeProperty(type="CAPACITY_PERCENT", value=int(size[:-1]))
