"""Dashboard: one page of CloudWatch for an endpoint: latency in milliseconds, requests, errors, devices, dollars.

Not the benchmark's report: heavylift.report.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from heavylift_cdk.alarms import Alarms, summed_over
from heavylift_cdk.model_endpoint import ModelEndpoint

HALF = 12  # of CloudWatch's 24 columns
PERCENTILES = (50, 90, 99)


class Dashboard(Construct):
    """`price_usd_per_hour` of one instance of each variant, None where it is not known: then without dollars."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint: ModelEndpoint,
        price_usd_per_hour: float | None = None,
        alarms: Alarms | None = None,
    ) -> None:
        super().__init__(scope, id)
        rows = [[self._latency(endpoint), self._requests(endpoint)], [self._devices(endpoint), self._hosts(endpoint)]]
        rows.append([self._cost(endpoint, price_usd_per_hour)])
        if endpoint.asynchronous is not None:
            rows[-1].append(_graph("Waiting for each instance", [endpoint.metric_backlog()]))
        if alarms is not None and alarms.alarms:
            rows.insert(0, [cloudwatch.AlarmStatusWidget(alarms=alarms.alarms, title="Alarms", width=2 * HALF)])
        cloudwatch.Dashboard(self, "Dashboard", widgets=rows)

    def _latency(self, endpoint: ModelEndpoint) -> cloudwatch.IWidget:
        lines: list[cloudwatch.IMetric] = []
        for number, variant in enumerate(endpoint.variants):
            for percentile in PERCENTILES:
                id = f"l{number}p{percentile}"
                metric = endpoint.metric_model_latency(variant.name, percentile=percentile)
                label = f"{variant.name} p{percentile}"
                lines.append(_computed(f"{id} / 1000", {id: metric}, label))
        return _graph("Time in the container", lines, "ms")

    def _requests(self, endpoint: ModelEndpoint) -> cloudwatch.IWidget:
        counts = [endpoint.metric_invocations(each.name) for each in endpoint.variants]
        errors = [
            metric(each.name)
            for each in endpoint.variants
            for metric in (endpoint.metric_client_errors, endpoint.metric_server_errors)
        ]
        return _graph("Requests and errors", [*counts, *errors], "a minute")

    def _devices(self, endpoint: ModelEndpoint) -> cloudwatch.IWidget:
        lines = [
            _share(endpoint, what, each.name, number, summed_over("gpu", each.capacity.types))
            for number, each in enumerate(endpoint.variants)
            for what in ("GPU", "GPUMemory")
        ]
        return _graph("Accelerators", lines, "% of one")

    def _hosts(self, endpoint: ModelEndpoint) -> cloudwatch.IWidget:
        lines = [
            _share(endpoint, what, each.name, number, summed_over(what.lower(), each.capacity.types))
            for number, each in enumerate(endpoint.variants)
            for what in ("CPU", "Memory", "Disk")
        ]
        return _graph("Processors, memory, disk", lines, "%")

    def _cost(self, endpoint: ModelEndpoint, price: float | None) -> cloudwatch.IWidget:
        lines: list[cloudwatch.IMetric] = []
        for number, each in enumerate(endpoint.variants):
            count = endpoint.metric_instances(each.name)
            lines.append(
                count if price is None else _computed(f"i{number} * {price!r}", {f"i{number}": count}, each.name)
            )
        return _graph("Instances" if price is None else "Cost", lines, "count" if price is None else "USD an hour")


def _share(endpoint: ModelEndpoint, what: str, variant: str, number: int, devices: int) -> cloudwatch.IMetric:
    id = f"{what.lower()}{number}"
    metric = endpoint.metric_utilization(what, variant)
    return _computed(f"{id} / {devices}", {id: metric}, f"{variant} {what}")


def _computed(expression: str, using: dict[str, cloudwatch.IMetric], label: str) -> cloudwatch.IMetric:
    return cloudwatch.MathExpression(
        expression=expression, using_metrics=using, label=label, period=Duration.minutes(1)
    )


def _graph(title: str, lines: Sequence[cloudwatch.IMetric], unit: str = "") -> cloudwatch.IWidget:
    axis = cloudwatch.YAxisProps(label=unit, min=0, show_units=False)
    return cloudwatch.GraphWidget(title=title, left=list(lines), left_y_axis=axis, width=HALF)
