"""ServingStack: one model, from its weights to its gate. What may roll back; nothing here is worth keeping.

Not the image, the buckets and the role: they are handed in.
"""

from __future__ import annotations

from aws_cdk import CfnOutput, Stack, Tags
from constructs import Construct

from heavylift.deploy.stacks import serving as stack_of
from heavylift.plan.plan import Plan
from heavylift_cdk import BenchmarkGate, ModelEndpoint, RuntimeImage, WeightsReady
from stacks.foundation import FoundationStack


class ServingStack(Stack):
    """WeightsReady → Model → EndpointConfig → Endpoint → BenchmarkGate; the gate's failure rolls the endpoint back.

    `model_file` is what the user types after `heavylift weights push`.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        plan: Plan,
        model_file: str,
        foundation: FoundationStack,
        image: RuntimeImage,
    ) -> None:
        super().__init__(scope, id, stack_name=stack_of(plan.name), description=f"Heavylift: {plan.name}")
        ready = WeightsReady(
            self,
            "WeightsReady",
            plan=plan,
            model_file=model_file,
            weights=foundation.weights,
            log_group=foundation.log_group,
        )
        endpoint = ModelEndpoint.of_plan(
            self, "Endpoint", plan=plan, weights=foundation.weights, role=foundation.role, image=image
        )
        endpoint.node.add_dependency(ready)
        if plan.benchmark is not None:
            BenchmarkGate(
                self,
                "BenchmarkGate",
                plan=plan,
                endpoint=endpoint,
                reports=foundation.reports,
                log_group=foundation.log_group,
            )

        CfnOutput(self, "EndpointName", value=endpoint.name)
        CfnOutput(self, "EndpointConfigName", value=endpoint.config_name)
        Tags.of(self).add("heavylift:model", plan.name)
        for key, value in plan.tags.items():
            Tags.of(self).add(key, value)
