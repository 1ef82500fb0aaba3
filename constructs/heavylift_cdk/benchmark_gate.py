"""BenchmarkGate: after the endpoint, run the plan's benchmark; a missed target does what the plan says.

Not the benchmark: that is heavylift.benchmark, whose folder is the Lambda's whole code (benchmark_function.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from aws_cdk import CustomResource
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct, IDependable

from heavylift.plan.plan import Plan
from heavylift_cdk.benchmark_function import LAMBDA_LIMIT_SECONDS, LEG_SECONDS, benchmark_function
from heavylift_cdk.function import may_call_itself
from heavylift_cdk.gate_generators import Generators
from heavylift_cdk.gate_rights import rights
from heavylift_cdk.model_endpoint import ModelEndpoint
from heavylift_cdk.slo_alarm import SloAlarm
from heavylift_cdk.values import seconds

if TYPE_CHECKING:  # its import takes time, and no value of it is used here
    from heavylift_cdk.inference_component import InferenceComponent

LONGEST_SERVICE_TIMEOUT_SECONDS = 3600  # AWS CloudFormation template reference, CustomResource


class BenchmarkGate(Construct):
    """The function, the custom resource that runs it when the endpoint is there, and the alarm on what it finds.

    Where the plan's strategy measures a model before it serves, a second custom resource comes before the endpoint's
    update, and the one after it measures only what had no endpoint yet. `alarm` is None where the plan only warns.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        plan: Plan,
        endpoint: ModelEndpoint,
        reports: s3.IBucket,
        log_group: logs.ILogGroup,
        component: InferenceComponent | None = None,
    ) -> None:
        """`component`: the one that the plan's benchmark measures, where it has copies of its own."""
        super().__init__(scope, id)
        assert plan.benchmark is not None, "a plan without a benchmark has no gate"
        self._runner = benchmark_function(
            self,
            entry="handler",
            reports=reports,
            log_group=log_group,
            statements=rights(self, plan, endpoint, reports),
        )
        legs = math.ceil(plan.benchmark.max_seconds / LEG_SECONDS)
        staged = plan.gate.strategy != "after_create"
        self._ready: list[IDependable] = [may_call_itself(self, self._runner)] if legs > 1 or staged else []
        asked = {
            "EndpointConfigName": endpoint.config_name,
            "GateDigest": plan.gate_digest,
            "Benchmark": plan.benchmark_json(),
        }
        if component is not None:
            asked |= {"InferenceComponentModel": component.model_name}
        if (count := plan.benchmark.load.get("generators", 1)) > 1:
            several = Generators(self, "Generators", runner=self._runner, count=count)
            self._ready += several.ready
            asked |= {"StateMachineArn": several.arn}
        if staged:
            asked |= {"Strategy": plan.gate.strategy}
            before = self._resource("Before", {"EndpointName": plan.name, **asked}, LONGEST_SERVICE_TIMEOUT_SECONDS)
            endpoint.endpoint.node.add_dependency(before)
            asked |= {"Before": before.get_att_string("Verdict"), "BeforeReport": before.get_att_string("ReportUri")}
        if plan.gate.strategy == "dark_variant" and endpoint.endpoint.retain_all_variant_properties is not None:
            # Those of the live endpoint: a flip has set the old variant's to 0.
            weight = sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type="DesiredWeight")
            endpoint.endpoint.exclude_retained_variant_properties = [weight]
        # It waits for the endpoint because it refers to it, and for the function's rights as the function does.
        self._resource("Resource", {"EndpointName": endpoint.name, **asked}, service_timeout(legs))
        self.alarm = None if plan.gate.on_fail == "warn" else SloAlarm(self, "SloAlarm", endpoint_name=plan.name)

    def _resource(self, id: str, properties: dict[str, Any], timeout: int) -> CustomResource:
        made = CustomResource(
            self,
            id,
            resource_type="Custom::HeavyliftBenchmarkGate",
            service_token=self._runner.function_arn,
            service_timeout=seconds(timeout),
            properties=properties,
        )
        for right in self._ready:  # those that cannot be the function's own, which would wait for itself
            made.node.add_dependency(right)
        return made


def service_timeout(legs: int) -> int:
    """Seconds that CloudFormation waits for an answer: as so many Lambdas take, and a minute; at most an hour."""
    return min(legs * LAMBDA_LIMIT_SECONDS + 60, LONGEST_SERVICE_TIMEOUT_SECONDS)
