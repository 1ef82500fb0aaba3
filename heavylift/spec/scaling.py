"""How many copies or instances run, and when. Not what they are: hosting.py.

Limits are those of Application Auto Scaling's API (PutScalingPolicy, PutScheduledAction) and of ProductionVariant's
ManagedInstanceScaling. Copies are scaled where the file has inference components, else instances.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heavylift.spec.fields import Auto, Listed, Name, Strictly, text

Least = Annotated[int, Field(ge=0, le=1000)]
Most = Annotated[int, Field(ge=1, le=1000)]
Cooldown = Annotated[int, Field(ge=0, le=86_400)]


class ScheduleSpec(Strictly):
    """New bounds at given times."""

    name: Name
    when: Annotated[
        str,
        text(
            r"^(cron\([^()]{5,128}\)|rate\([1-9][0-9]{0,5} (minute|hour|day)s?\)"
            r"|at\([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\))$",
            "cron(minutes hours day month weekday year), rate(N hours) or at(2026-12-31T23:59:59)",
            256,
        ),
    ]
    timezone: Annotated[str, text(r"^[A-Za-z_]+(/[A-Za-z0-9_+-]+)*$", "a time zone such as Europe/Berlin", 64)] = "UTC"
    min: Least | None = None
    max: Least | None = None


class PredictiveSpec(Strictly):
    """Capacity ahead of a load that repeats by the day or week, learned from its history."""

    mode: Literal["forecast_only", "forecast_and_scale"] = "forecast_only"
    target: float = Field(gt=0, description="requests a minute for each instance, or copy")
    scheduling_buffer_in_seconds: int = Field(300, ge=0, le=3600, description="how much earlier to start")
    above_max: Literal["honor", "increase"] = Field("honor", description="may a forecast exceed `max`?")
    max_capacity_buffer_percent: int | None = Field(None, ge=0, le=100, description="of increase: room above it")


class ScalingSpec(Strictly):
    """Target tracking between `min` and `max`; `min: 0` needs inference components or async_inference."""

    min: Least
    max: Most
    metric: Auto | Literal["concurrency", "invocations", "backlog"] = Field(
        "auto",
        description="concurrent requests (10-second metric), requests a minute, or async requests waiting, each for one"
        " instance or copy; auto: backlog for async_inference, else concurrency",
    )
    target: Auto | Annotated[float, Field(gt=0)] = Field(
        "auto", description="of the metric; auto: serving.batch_size · serving.workers, not for invocations"
    )
    scale_in_cooldown_in_seconds: Cooldown = 300
    scale_out_cooldown_in_seconds: Cooldown = 60
    scale_in: bool = Field(True, description="false: never fewer than there were")
    schedules: Annotated[tuple[ScheduleSpec, ...], Listed] = Field((), max_length=50)
    predictive: PredictiveSpec | None = None


class ScaleInSpec(Strictly):
    """How SageMaker gives idle instances back."""

    strategy: Literal["idle_release", "consolidation"]
    maximum_step_size: int = Field(1, ge=1, le=100, description="instances at a time")
    cooldown_in_minutes: int = Field(20, ge=5, le=1440)


class ManagedInstancesSpec(Strictly):
    """Instances that SageMaker adds and removes as inference components need them."""

    min: Least
    max: Most
    scale_in: ScaleInSpec | None = None
