"""How an update reaches the traffic, and what takes it back. Not the gate, which measures afterwards.

Limits are those of DeploymentConfig: BlueGreenUpdatePolicy, TrafficRoutingConfig, RollingUpdatePolicy,
AutoRollbackConfig (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeploymentConfig.html). Shares of
capacity and the sum of the waits are checked in rules.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heavylift.spec.fields import Listed, Strictly, text

Wait = Annotated[int, Field(ge=0, le=3600)]
Execution = Annotated[int, Field(ge=600, le=28_800)]
Capacity = Annotated[int, Field(ge=1, le=1000)] | Annotated[str, text(r"^[1-9][0-9]?%$|^100%$", "'1%' to '100%'", 4)]
"""A number of instances, or a share of them."""
AlarmName = Annotated[str, text(r"^[^\x00-\x1f]{1,255}$", "a CloudWatch alarm's name, at most 255 characters", 255)]


class _Rollout(Strictly):
    """What every strategy has."""

    auto_rollback: bool = Field(True, description="take the update back when an alarm of this file goes off")
    alarms: Annotated[tuple[AlarmName, ...], Listed] = Field((), max_length=10, description="further alarms, by name")
    max_execution_timeout_in_seconds: Execution | None = Field(None, description="more than all waits together")
    retain_instance_counts: bool = Field(True, description="keep the counts that scaling has come to")


class _BlueGreen(_Rollout):
    termination_wait_in_seconds: Wait = Field(0, description="before the old instances go")


class AllAtOnce(_BlueGreen):
    """All traffic to a new fleet, once it is healthy."""

    strategy: Literal["all_at_once"]
    wait_in_seconds: Wait = Field(0, description="alarms are watched so long")


class Canary(_BlueGreen):
    """A small share of the new fleet first, then all."""

    strategy: Literal["canary"]
    canary_size: Capacity = Field(description="instances, or a share, at most half")
    wait_in_seconds: Wait = Field(description="how long the canary is watched")


class Linear(_BlueGreen):
    """In equal steps."""

    strategy: Literal["linear"]
    step_size: Capacity = Field(description="instances, or a share, from 10% to 50%")
    wait_in_seconds: Wait = Field(description="after each step")


class Rolling(_Rollout):
    """Old instances replaced in batches, without a second fleet."""

    strategy: Literal["rolling"]
    batch_size: Capacity = Field(description="instances, or a share, from 5% to 50%")
    wait_in_seconds: Wait = Field(description="after each batch")
    rollback_batch_size: Capacity | None = Field(None, description="default: all at once")


Rollout = Annotated[AllAtOnce | Canary | Linear | Rolling, Field(discriminator="strategy")]
