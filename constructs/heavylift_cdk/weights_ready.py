"""WeightsReady: fails a deployment at once, with the command to run, when the model's files are not in S3 yet.

Not the push (heavylift.weights), nor a check of files: a manifest is written last, so a prefix with one is complete.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import CustomResource
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from heavylift.plan.plan import Plan
from heavylift_cdk.function import function, handlers
from heavylift_cdk.values import allowed, constant, seconds, stack_id


class WeightsReady(Construct):
    """What needs the weights depends on this. Its function may list manifests, and read nothing."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        plans: Sequence[Plan],
        model_file: str,
        weights: s3.IBucket,
        log_group: logs.ILogGroup,
    ) -> None:
        """`plans`: one for each configuration; they share the weights."""
        super().__init__(scope, id)
        check = function(
            self,
            "Function",
            code=handlers(),
            handler="lambdas.weights_ready.handler",
            timeout_seconds=60,
            memory_mb=256,
            log_group=log_group,
            environment={},
            statements=[
                allowed(["cloudformation:DescribeStacks"], [stack_id()]),
                allowed(
                    ["s3:ListBucket"],
                    [constant(weights, "bucket_arn")],
                    # Of any digest: IAM may take seconds to believe a changed policy, and the function runs at once.
                    conditions={"StringLike": {"s3:prefix": ["weights/*/manifest.json", "config/*/manifest.json"]}},
                ),
            ],
        )
        prefixes = [plans[0].weights_prefix, *(plan.config_prefix for plan in plans)]
        CustomResource(
            self,
            "Resource",
            resource_type="Custom::HeavyliftWeightsReady",
            service_token=check.function_arn,
            service_timeout=seconds(120),
            properties={
                "Bucket": constant(weights, "bucket_name"),
                "Keys": [f"{prefix}manifest.json" for prefix in prefixes],
                "Model": plans[0].name,
                "ModelFile": model_file,
            },
        )
