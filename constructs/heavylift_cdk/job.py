"""Job: the Lambda that starts a long job for CloudFormation, and tells it when EventBridge says that it has ended.

Not the job: staging.py, image_build.py and prepared.py have one each. Its code: lambdas/jobs. CloudFormation waits an
hour for a custom resource and twelve for a wait condition, so the first begins the job, and the second is what its end
is told to. A job that takes longer still goes on, and the next deployment finds what it made. Where the function dies
of an event, a second one tells the stack in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aws_cdk import CfnWaitCondition, CfnWaitConditionHandle, CustomResource
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct, IDependable

from heavylift_cdk.checks import acknowledge_objects
from heavylift_cdk.function import function, handlers, may_call_itself
from heavylift_cdk.values import seconds, stack_id
from heavylift_cdk.weights import Weights

LONGEST_ANSWER_SECONDS = 3600  # AWS CloudFormation template reference, CustomResource: ServiceTimeout
LONGEST_WAIT_SECONDS = 43_200  # the same, WaitCondition: Timeout


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
        timeout_seconds: int = 120,
    ) -> None:
        """`timeout_seconds`: of one answer."""
        super().__init__(scope, id)
        bucket, stack, waiting = weights.bucket, stack_id(), weights.bucket.arn_for_objects("jobs/*")
        looking = iam.PolicyStatement(actions=["cloudformation:DescribeStacks"], resources=[stack])
        listing = iam.PolicyStatement(actions=["s3:ListBucket"], resources=[bucket.bucket_arn])
        knows = {"KIND": kind, "BUCKET": bucket.bucket_name, "STACK": stack}
        lost = function(
            self,
            "Lost",
            code=handlers(),
            handler="lambdas.jobs.lost.handler",
            timeout_seconds=120,
            memory_mb=256,
            log_group=log_group,
            environment=knows,
            statements=[
                looking,
                listing,  # or what is not there is forbidden
                iam.PolicyStatement(actions=["s3:GetObject", "s3:DeleteObject"], resources=[waiting]),
                iam.PolicyStatement(actions=["kms:Decrypt"], resources=[weights.key.key_arn]),
            ],
        )
        common = [
            looking,
            listing,
            iam.PolicyStatement(actions=["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], resources=[waiting]),
            iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[weights.key.key_arn]),
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[lost.function_arn]),
        ]
        self.function = function(
            self,
            "Function",
            code=handlers(),
            handler="lambdas.jobs.index.handler",
            timeout_seconds=timeout_seconds,
            memory_mb=256,
            log_group=log_group,
            environment={**knows, **environment},
            statements=[*common, *statements],
        )
        # The CDK's own destination would let it invoke every version of that function.
        destination = lambda_.CfnEventInvokeConfig(
            self,
            "Failing",
            function_name=self.function.function_name,
            qualifier="$LATEST",
            destination_config=lambda_.CfnEventInvokeConfig.DestinationConfigProperty(
                on_failure=lambda_.CfnEventInvokeConfig.OnFailureProperty(destination=lost.function_arn)
            ),
        )
        destination.node.add_dependency(self.function)  # and its policy, without which Lambda refuses the destination
        rule = events.Rule(self, "Ended", event_pattern=ended, targets=[targets.LambdaFunction(self.function)])
        self._ready: list[IDependable] = [rule, destination]  # or a short job could end before anybody listens
        if kind == "training":
            self._ready.append(may_call_itself(self, self.function))  # to go on with a copy
        acknowledge_objects(self, bucket, "jobs/*", "each request that waits has a key of its own")

    def resource(
        self, scope: Construct, id: str, kind: str, properties: Mapping[str, Any], *, made: str
    ) -> CustomResource:
        """What begins a job of these properties; it is asked again when they change, and only then.

        `made` names what the job makes. CloudFormation updates no wait condition: for every other name there is
        another. Who needs what is made depends on `scope`, in which both are.
        """
        told = CfnWaitConditionHandle(scope, f"Told{made}")
        begun = CustomResource(
            scope,
            id,
            resource_type=kind,
            service_token=self.function.function_arn,
            service_timeout=seconds(LONGEST_ANSWER_SECONDS),
            properties={**properties, "Told": told.ref},
        )
        begun.node.add_dependency(*self._ready)
        ended = CfnWaitCondition(scope, f"Made{made}", handle=told.ref, timeout=str(LONGEST_WAIT_SECONDS))
        ended.node.add_dependency(begun)
        return begun


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
