"""SloAlarm: in ALARM while the last benchmark that judged an endpoint found that it missed its targets.

Not the metric's making (heavylift/benchmark/violation.py). For deployment guardrails and roll-back triggers, which take
an alarm by its name, and for people.
"""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from heavylift_cdk.values import seconds

NAMESPACE, METRIC, DIMENSION = "Heavylift", "SloViolation", "EndpointName"


class SloAlarm(Construct):
    """`name` is what a guardrail's AutoRollbackConfiguration takes. `endpoint_name` is the name itself, and not a
    reference, so that an endpoint may refer to its alarm.

    Between two benchmarks there are no data, and the alarm keeps its state: a held deployment stays in ALARM until a
    benchmark passes.
    """

    def __init__(self, scope: Construct, id: str, *, endpoint_name: str) -> None:
        super().__init__(scope, id)
        metric = cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=METRIC,
            dimensions_map={DIMENSION: endpoint_name},
            # Within one period the order is lost. A rollback's 0 comes seconds after the 1 of the missed benchmark, and
            # must win, or the alarm would ring on. A 1 must not hide behind the 0 of the deployment before: that was
            # another change set and another benchmark, which take longer than the 10 seconds, but maybe no minute.
            statistic="Minimum",
            period=seconds(10),
        )
        self._alarm = cloudwatch.Alarm(
            self,
            "Alarm",
            metric=metric,
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.IGNORE,
            alarm_description=f"the last benchmark of {endpoint_name} missed its targets",
        )

    @property
    def name(self) -> str:
        """The alarm's, as CloudFormation gives it."""
        return self._alarm.alarm_name
