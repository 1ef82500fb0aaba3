"""ExecutionRole: what SageMaker may do for one endpoint: write its logs and metrics, and what its containers ask for.

Not AmazonSageMakerFullAccess. After the permissions that CreateModel needs (SageMaker developer guide, "How to use
SageMaker AI execution roles"), each narrowed to its resource where it has one.
"""

from __future__ import annotations

from aws_cdk import Aws, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from heavylift_cdk.checks import acknowledge
from heavylift_cdk.runtime_image import PULL

NAMESPACES = ["AWS/SageMaker", "/aws/sagemaker/*", "Heavylift"]


class ExecutionRole(iam.Role):
    """A role that only this account's SageMaker may take. Grant it what else it needs."""

    def __init__(self, scope: Construct, id: str) -> None:
        # The account's own endpoints only (SageMaker developer guide, "Cross-service confused deputy prevention").
        own = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}}
        super().__init__(scope, id, assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com", conditions=own))
        logs = Stack.of(scope).format_arn(service="logs", resource="log-group:/aws/sagemaker/*")
        for statement in (
            iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"]),  # it has no resource
            iam.PolicyStatement(
                actions=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                resources=[logs],
            ),
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],  # it has no resource either, but a condition
                resources=["*"],
                conditions={"StringLike": {"cloudwatch:namespace": NAMESPACES}},
            ),
        ):
            self.add_to_policy(statement)
        acknowledge(
            self,
            "IAM5[Resource::*]",
            "GetAuthorizationToken and PutMetricData know no resource; a condition narrows the latter",
        )
        acknowledge(
            self,
            "IAM5[Resource::arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:/aws/sagemaker/*]",
            "SageMaker names the log groups, one for each endpoint",
        )

    def allow_pull(self, repository_arn: str) -> None:
        """Let it pull from a repository."""
        self.add_to_policy(iam.PolicyStatement(actions=list(PULL), resources=[repository_arn]))
