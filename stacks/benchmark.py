"""BenchmarkStack: a model's benchmark against its endpoint, apart from any deployment.

Not the gate: stacks/serving.py.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_events as events
from constructs import Construct

from heavylift.plan.plan import Plan
from heavylift.spec import ModelSpec
from heavylift_cdk.endpoint_benchmark import EndpointBenchmark
from stacks import hosting
from stacks.foundation import FoundationStack

BY_HAND = "by-hand"


class BenchmarkStack(Stack):
    """`schedule`: EventBridge's `rate(1 day)` or `cron(…)`; None: by hand, with `aws lambda invoke`. Of `spec` it reads
    where an asynchronous endpoint's results go."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        plan: Plan,
        foundation: FoundationStack,
        schedule: str | None,
        spec: ModelSpec | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(scope, id, description=f"Heavylift: the benchmark of {plan.name}", **rest)
        self.benchmark = EndpointBenchmark(
            self,
            "Benchmark",
            plan=plan,
            reports=foundation.reports,
            log_group=foundation.log_group,
            schedule=None if schedule is None else events.Schedule.expression(schedule),
            asynchronous=None if spec is None else hosting.asynchronous(self, spec, foundation.reports),
        )
        CfnOutput(self, "FunctionName", value=self.benchmark.function.function_name)
