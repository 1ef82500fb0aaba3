"""Job: the Lambda that starts a long job for CloudFormation, and answers when EventBridge tells that it has ended.

Not the job: staging.py, image_build.py and prepared.py have one each. Its code: lambdas/jobs. CloudFormation waits an
hour at most; a job that takes longer goes on, and the next deployment finds what it made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aws_cdk import CustomResource, Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from heavylift_cdk.checks import acknowledge_objects
from heavylift_cdk.function import function, handlers
from heavylift_cdk.weights import Weights

LONGEST_ANSWER = Duration.hours(1)  # AWS CloudFormation template reference, CustomResource: ServiceTimeout


class Job(Construct):
    """The function and the rule that wakes it. `ended`: the detail of the events that end a job."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        kind: Literal["staging", "image", "processing", "training"],
        weights: Weights,
        log_group: logs.ILogGroup,
        environment: Mapping[str, str],
        statements: Sequence[iam.PolicyStatement],
        ended: events.EventPattern,
        timeout: Duration | None = None,
    ) -> None:
        """`timeout`: of one answer; two minutes where None."""
        super().__init__(scope, id)
        bucket, stack = weights.bucket, Stack.of(self).stack_id
        common = [
            iam.PolicyStatement(actions=["cloudformation:DescribeStacks"], resources=[stack]),
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[bucket.bucket_arn]),
            iam.PolicyStatement(
                actions=["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
                resources=[bucket.arn_for_objects("jobs/*")],
            ),
            iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[weights.key.key_arn]),
        ]
        self.function = function(
            self,
            "Function",
            code=handlers(),
            handler="lambdas.jobs.index.handler",
            timeout=Duration.minutes(2) if timeout is None else timeout,
            memory_mb=256,
            log_group=log_group,
            environment={"KIND": kind, "BUCKET": bucket.bucket_name, "STACK": stack, **environment},
            statements=[*common, *statements],
        )
        self._rule = events.Rule(
            self, "Ended", event_pattern=ended, targets=[targets.LambdaFunction(self.function)]
        )  # fmt: skip
        acknowledge_objects(self, bucket, "jobs/*", "each request that waits has a key of its own")

    def resource(self, scope: Construct, id: str, kind: str, properties: Mapping[str, Any]) -> CustomResource:
        """What waits for a job of these properties; it is asked again when they change, and only then."""
        made = CustomResource(
            scope,
            id,
            resource_type=kind,
            service_token=self.function.function_arn,
            service_timeout=LONGEST_ANSWER,
            properties=dict(properties),
        )
        made.node.add_dependency(self._rule)  # or a short job could end before anybody listens
        return made


def build_ended(project: str) -> events.EventPattern:
    """Every end of a build of a CodeBuild project (CodeBuild user guide, "Build notifications input format")."""
    return events.EventPattern(
        source=["aws.codebuild"],
        detail_type=["CodeBuild Build State Change"],
        detail={
            "project-name": [project],
            "build-status": ["SUCCEEDED", "FAILED", "STOPPED", "FAULT", "TIMED_OUT"],
        },
    )


def build_rights(project_arn: str) -> iam.PolicyStatement:
    """What starting, watching and ending a project's builds takes."""
    actions = ["codebuild:StartBuild", "codebuild:StopBuild", "codebuild:BatchGetBuilds"]
    return iam.PolicyStatement(actions=actions, resources=[project_arn])
