"""What is recorded of a running endpoint, and asynchronous requests. Not the benchmark: benchmark.py.

Limits are those of DataCaptureConfig, MetricsConfig and AsyncInferenceConfig
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html). CloudWatch counts
ModelLatency and OverheadLatency in microseconds and sums GPU utilization over the devices; here are milliseconds and
percent of one device.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from heavylift.spec.fields import KeyArn, Listed, Percentile, S3Output, Share, Strictly, TopicArn


class DataCaptureSpec(Strictly):
    """Requests and replies, kept in S3."""

    sampling_percentage: int = Field(ge=0, le=100)
    capture: Annotated[tuple[Literal["input", "output"], ...], Listed] = Field(
        ("input", "output"), min_length=1, max_length=2
    )
    destination: S3Output | None = Field(None, description="default: captures/ in the reports bucket")
    kms_key: KeyArn | None = None


class MetricsSpec(Strictly):
    """What SageMaker publishes beyond its usual metrics."""

    enhanced: bool = Field(False, description="for each instance and container")
    detailed_observability: bool = Field(True, description="for each GPU, and the container's own Prometheus metrics")
    publish_frequency_in_seconds: Literal[10, 30, 60, 120, 180, 240, 300] = 60


class _Alarm(Strictly):
    for_minutes: int = Field(3, ge=1, le=1440, description="one after the other")
    no_data: Literal["ok", "alarm", "keep"] = Field("ok", description="what no data means")


class LatencyAlarm(_Alarm):
    """A percentile of the time in the container (`latency`), or of SageMaker's own (`overhead`)."""

    metric: Literal["latency", "overhead"]
    percentile: Percentile = 99
    max_ms: float = Field(gt=0)


class ErrorAlarm(_Alarm):
    """A share of the invocations: replies 4xx, or 5xx."""

    metric: Literal["errors_4xx", "errors_5xx"]
    max: Share


class UtilizationAlarm(_Alarm):
    """The fullest instance, in percent of one device."""

    metric: Literal["gpu", "gpu_memory", "cpu", "memory", "disk"]
    max_percent: float = Field(gt=0, le=100)


class BacklogAlarm(_Alarm):
    """Asynchronous requests that wait, for each instance."""

    metric: Literal["backlog"]
    max: float = Field(gt=0)


class CostAlarm(_Alarm):
    """What the instances that run cost in an hour, at the plan's price."""

    metric: Literal["cost"]
    max_usd_per_hour: float = Field(gt=0)


Alarm = Annotated[
    LatencyAlarm | ErrorAlarm | UtilizationAlarm | BacklogAlarm | CostAlarm, Field(discriminator="metric")
]


class MonitoringSpec(Strictly):
    """Alarms are what a roll-out watches, too."""

    alarms: Annotated[tuple[Alarm, ...], Listed] = Field((), max_length=10)
    notify: Annotated[tuple[TopicArn, ...], Listed] = Field((), max_length=5, description="SNS topics")
    dashboard: bool = Field(False, description="a CloudWatch dashboard")
    metrics: MetricsSpec = MetricsSpec()
    data_capture: DataCaptureSpec | None = None


class AsyncSpec(Strictly):
    """Requests by InvokeEndpointAsync: inputs and outputs lie in S3."""

    output: S3Output | None = Field(None, description="default: async/ in the reports bucket")
    failure: S3Output | None = None
    max_concurrent_invocations_per_instance: int | None = Field(None, ge=1, le=1000)
    success_topic: TopicArn | None = None
    error_topic: TopicArn | None = None
    include_response_in: Annotated[tuple[Literal["success", "error"], ...], Listed] = Field((), max_length=2)
    kms_key: KeyArn | None = None
