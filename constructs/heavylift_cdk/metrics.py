"""EndpointMetrics: SageMaker's CloudWatch metrics of an endpoint's variants, with the right statistic. Not alarms.

Names and units: https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
"""

from __future__ import annotations

from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from heavylift_cdk.variant import Variant

INVOCATIONS, INSTANCES = "AWS/SageMaker", "/aws/sagemaker/Endpoints"


class EndpointMetrics:
    """`variant` is the first where None."""

    variants: tuple[Variant, ...]
    stable_name: str
    """The endpoint's name, given where one was, for those that need not wait for the endpoint."""

    def metric(
        self, name: str, *, variant: str | None = None, namespace: str = INVOCATIONS, **options: Any
    ) -> cloudwatch.Metric:
        """One of SageMaker's metrics of a variant; `options` are aws_cloudwatch.Metric's."""
        chosen = self.variants[0].name if variant is None else variant
        dimensions = {"EndpointName": self.stable_name, "VariantName": chosen}
        return cloudwatch.Metric(namespace=namespace, metric_name=name, dimensions_map=dimensions, **options)

    def metric_of_endpoint(self, name: str, **options: Any) -> cloudwatch.Metric:
        """One of the metrics that know no variant, such as an asynchronous endpoint's backlog."""
        dimensions = {"EndpointName": self.stable_name}
        return cloudwatch.Metric(namespace=INVOCATIONS, metric_name=name, dimensions_map=dimensions, **options)

    def metric_invocations(self, variant: str | None = None) -> cloudwatch.Metric:
        """Requests, a count."""
        return self.metric("Invocations", variant=variant, statistic=cloudwatch.Stats.SUM)

    def metric_client_errors(self, variant: str | None = None) -> cloudwatch.Metric:
        """Requests that ended with a 4XX status, a count."""
        return self.metric("Invocation4XXErrors", variant=variant, statistic=cloudwatch.Stats.SUM)

    def metric_server_errors(self, variant: str | None = None) -> cloudwatch.Metric:
        """Requests that ended with a 5XX status, a count."""
        return self.metric("Invocation5XXErrors", variant=variant, statistic=cloudwatch.Stats.SUM)

    def metric_model_latency(self, variant: str | None = None, *, percentile: float) -> cloudwatch.Metric:
        """The container's own time for a request, in microseconds."""
        return self.metric("ModelLatency", variant=variant, statistic=cloudwatch.Stats.percentile(percentile))

    def metric_overhead_latency(self, variant: str | None = None, *, percentile: float) -> cloudwatch.Metric:
        """SageMaker's own time for a request, in microseconds."""
        return self.metric("OverheadLatency", variant=variant, statistic=cloudwatch.Stats.percentile(percentile))

    def metric_utilization(self, what: str, variant: str | None = None) -> cloudwatch.Metric:
        """CPU, Memory, Disk, GPU or GPUMemory of the fullest instance, in percent, CPU and GPUs summed over the
        devices: 8 full ones are 800."""
        return self.metric(
            f"{what}Utilization", variant=variant, namespace=INSTANCES, statistic=cloudwatch.Stats.MAXIMUM
        )

    def metric_gpu_memory(self, variant: str | None = None) -> cloudwatch.Metric:
        """GPU memory in use, in percent, summed over the devices: 8 full ones are 800."""
        return self.metric_utilization("GPUMemory", variant)

    def metric_instances(self, variant: str | None = None) -> cloudwatch.Metric:
        """Instances that run: each sends one value of its processor a minute, and these are counted."""
        return self.metric(
            "CPUUtilization",
            variant=variant,
            namespace=INSTANCES,
            statistic=cloudwatch.Stats.SAMPLE_COUNT,
            period=Duration.minutes(1),
        )

    def metric_backlog(self) -> cloudwatch.Metric:
        """Asynchronous requests that wait, for each instance; not emitted while there is none."""
        return self.metric_of_endpoint("ApproximateBacklogSizePerInstance", statistic=cloudwatch.Stats.AVERAGE)
