"""LiveConfig: fails a deployment whose endpoint does not serve the configuration that was just deployed.

SageMaker takes an update back by itself, on an alarm or a container that does not come up, and another program may
update the endpoint meanwhile. Not the gate, which looks at the same before it measures.
"""

from __future__ import annotations

from aws_cdk import CustomResource
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from heavylift_cdk.function import function, handlers
from heavylift_cdk.model_endpoint import ModelEndpoint
from heavylift_cdk.values import allowed, seconds, stack_id


class LiveConfig(Construct):
    """Runs after the endpoint, whenever its configuration changes. Its function may describe this endpoint."""

    def __init__(self, scope: Construct, id: str, *, endpoint: ModelEndpoint, log_group: logs.ILogGroup) -> None:
        super().__init__(scope, id)
        check = function(
            self,
            "Function",
            code=handlers(),
            handler="lambdas.live_config.handler",
            timeout_seconds=60,
            memory_mb=256,
            log_group=log_group,
            environment={},
            statements=[
                allowed(["cloudformation:DescribeStacks"], [stack_id()]),
                iam.PolicyStatement(actions=["sagemaker:DescribeEndpoint"], resources=[endpoint.arn]),
            ],
        )
        CustomResource(
            self,
            "Resource",
            resource_type="Custom::HeavyliftLiveConfig",
            service_token=check.function_arn,
            service_timeout=seconds(120),
            properties={"EndpointName": endpoint.name, "EndpointConfigName": endpoint.config_name},
        )
