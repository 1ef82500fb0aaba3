"""Predictive: capacity ahead of a load that repeats by the day or the week. Not what follows the load: scaling.py.

Application Auto Scaling's API takes custom metrics for any service; whether it forecasts for SageMaker was not tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aws_cdk import aws_applicationautoscaling as autoscaling

from heavylift_cdk.bounds import between

Policy = autoscaling.CfnScalingPolicy


@dataclass(frozen=True)
class Predictive:
    """`target` requests a minute for each instance; the buffer in seconds; `room_percent` above the maximum, of
    `increase`."""

    target: float
    mode: Literal["forecast_only", "forecast_and_scale"] = "forecast_only"
    scheduling_buffer: int = 300
    above_maximum: Literal["honor", "increase"] = "honor"
    room_percent: int | None = None

    def faults(self) -> Iterator[str]:
        """What Application Auto Scaling would refuse."""
        yield from between("scheduling_buffer", self.scheduling_buffer, 0, 3600)
        yield from between("room_percent", self.room_percent, 0, 100)
        if self.room_percent is not None and self.above_maximum == "honor":
            yield "'room_percent' needs above_maximum: increase"

    def render(
        self, endpoint: str, variant: str
    ) -> autoscaling.CfnScalingPolicy.PredictiveScalingPolicyConfigurationProperty:
        """The policy's property: the load is all invocations, the capacity the instances that send their metrics."""
        dimensions = [
            Policy.PredictiveScalingMetricDimensionProperty(name="EndpointName", value=endpoint),
            Policy.PredictiveScalingMetricDimensionProperty(name="VariantName", value=variant),
        ]

        def queries(namespace: str, name: str, stat: str) -> list[Policy.PredictiveScalingMetricDataQueryProperty]:
            metric = Policy.PredictiveScalingMetricProperty(
                namespace=namespace, metric_name=name, dimensions=dimensions
            )
            return [
                Policy.PredictiveScalingMetricDataQueryProperty(
                    id="m", metric_stat=Policy.PredictiveScalingMetricStatProperty(metric=metric, stat=stat)
                )
            ]

        specification = Policy.PredictiveScalingMetricSpecificationProperty(
            target_value=self.target,
            customized_load_metric_specification=Policy.PredictiveScalingCustomizedLoadMetricProperty(
                metric_data_queries=queries("AWS/SageMaker", "Invocations", "Sum")
            ),
            customized_scaling_metric_specification=Policy.PredictiveScalingCustomizedScalingMetricProperty(
                metric_data_queries=queries("AWS/SageMaker", "InvocationsPerInstance", "Sum")
            ),
            customized_capacity_metric_specification=Policy.PredictiveScalingCustomizedCapacityMetricProperty(
                metric_data_queries=queries("/aws/sagemaker/Endpoints", "CPUUtilization", "SampleCount")
            ),
        )
        return Policy.PredictiveScalingPolicyConfigurationProperty(
            metric_specifications=[specification],
            mode={"forecast_only": "ForecastOnly", "forecast_and_scale": "ForecastAndScale"}[self.mode],
            scheduling_buffer_time=self.scheduling_buffer,
            max_capacity_breach_behavior={"honor": "HonorMaxCapacity", "increase": "IncreaseMaxCapacity"}[
                self.above_maximum
            ],
            max_capacity_buffer=self.room_percent,
        )
