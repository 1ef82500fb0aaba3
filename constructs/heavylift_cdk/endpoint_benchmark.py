"""EndpointBenchmark: the plan's benchmark against the endpoint that stands, by hand or on a schedule.

Not a gate (benchmark_gate.py): it belongs to no deployment, and a missed target rings the alarm and nothing else.
"""

from __future__ import annotations

from aws_cdk import Annotations, ArnFormat, Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from heavylift.plan.plan import Plan
from heavylift_cdk.benchmark_function import LEG_SECONDS, benchmark_function
from heavylift_cdk.gate_rights import measuring
from heavylift_cdk.recording import Asynchronous
from heavylift_cdk.slo_alarm import SloAlarm

MOST_TEXT = 3500  # characters: a function's environment has 4 KB (AWS Lambda developer guide, "Lambda quotas")


class EndpointBenchmark(Construct):
    """The function, its schedule where there is one, and the alarm. No two runs of it overlap, and none is repeated: a
    second load would be measured with the first."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        plan: Plan,
        reports: s3.IBucket,
        log_group: logs.ILogGroup,
        schedule: events.Schedule | None = None,
        asynchronous: Asynchronous | None = None,
    ) -> None:
        """`asynchronous`: the endpoint's, where it is."""
        super().__init__(scope, id)
        assert plan.benchmark is not None, "a plan without a benchmark has nothing to run"
        for fault in faults(plan):
            Annotations.of(self).add_error(fault)
        endpoint = Stack.of(self).format_arn(
            service="sagemaker", resource="endpoint", resource_name=plan.name, arn_format=ArnFormat.SLASH_RESOURCE_NAME
        )
        self.function = benchmark_function(
            self,
            entry="standing",
            reports=reports,
            log_group=log_group,
            environment={"ENDPOINT_NAME": plan.name, "BENCHMARK": plan.benchmark_json()},
            statements=measuring(self, plan, endpoint, reports, asynchronous, "s3:PutObject"),
        )
        self.function.configure_async_invoke(retry_attempts=0, max_event_age=Duration.minutes(15))
        self.alarm = SloAlarm(self, "SloAlarm", endpoint_name=plan.name)
        if schedule is not None:
            target = targets.LambdaFunction(self.function, retry_attempts=0)
            events.Rule(self, "Schedule", schedule=schedule, targets=[target])


def faults(plan: Plan) -> list[str]:
    """What this benchmark cannot be run with."""
    assert plan.benchmark is not None
    found, seconds = [], plan.benchmark.max_seconds
    if seconds > LEG_SECONDS:
        found.append(f"'benchmark.max_seconds' must be at most {LEG_SECONDS} for one Lambda: got {seconds:g}")
    if plan.benchmark.load.get("generators", 1) > 1:
        found.append("'benchmark.load.generators' needs the gate's state machine: leave it out here")
    if (size := len(plan.benchmark_json())) > MOST_TEXT:
        found.append(f"the benchmark takes {size} characters, at most {MOST_TEXT} here: take a shorter dataset")
    return found
