"""FoundationStack: what outlives a model and a failed deployment: the key, two buckets, the images, the role, a log.

Not a model's: its template is the same whatever the models are.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import Aws, CfnOutput, DefaultStackSynthesizer, Duration, Environment, Fn, RemovalPolicy, Stack
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from heavylift.deploy.stacks import FOUNDATION
from heavylift_cdk import Weights
from heavylift_cdk.checks import acknowledge, acknowledge_objects
from heavylift_cdk.execution_role import ExecutionRole
from heavylift_cdk.weights import kept_bucket

READ = ("weights/*", "artifacts/*", "config/*")
"""Keys of the weight bucket that an endpoint may need, whichever model's they are."""


class FoundationStack(Stack):
    """`weights` and `reports` (S3), `images` (ECR), `key` (KMS), `role` (SageMaker's execution role), `log_group` (the
    Lambdas'). `store` is the construct of the weights."""

    def __init__(self, scope: Construct, id: str, **options: Any) -> None:
        """`options` are Stack's."""
        super().__init__(scope, id, stack_name=FOUNDATION, description="Heavylift: what outlives a model", **options)
        self.env_account, self.env_region = _given(options.get("env"))
        self.key = kms.Key(
            self,
            "Key",
            description="Heavylift: weights and reports",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
        )
        self.store = Weights(self, "Weights", key=self.key)
        self.weights = self.store.bucket
        self.images = self._repository()
        self.reports = kept_bucket(self, "Reports", self.key)  # only `heavylift destroy --purge` deletes it
        self.log_group = logs.LogGroup(
            self,
            "Log",
            encryption_key=self.key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self._let_logs_encrypt()
        self.role = self._role()

        outputs = {
            "WeightsBucketName": self.weights.bucket_name,
            "ReportsBucketName": self.reports.bucket_name,
            "RoleArn": self.role.role_arn,
            "KeyArn": self.key.key_arn,
        }
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)
        self._export()
        self._acknowledge()

    def _repository(self) -> ecr.Repository:
        """Of the runtime's images that CodeBuild makes: their tags are hashes of their content and never move.

        Gone with the stack: what made the images is in the checkout.
        """
        return ecr.Repository(
            self,
            "Images",
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            encryption=ecr.RepositoryEncryption.AES_256,
            lifecycle_rules=[ecr.LifecycleRule(tag_status=ecr.TagStatus.UNTAGGED, max_image_age=Duration.days(7))],
            removal_policy=RemovalPolicy.DESTROY,
            empty_on_delete=True,
        )

    def _let_logs_encrypt(self) -> None:
        """CloudWatch Logs uses the key for this stack's log group, and for no other (CloudWatch Logs user guide,
        "Encrypt log data in CloudWatch Logs using AWS KMS")."""
        whose = self.format_arn(service="logs", resource=f"log-group:{FOUNDATION}-*")
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{self.region}.{Aws.URL_SUFFIX}")],
                actions=["kms:Encrypt*", "kms:Decrypt*", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
                resources=["*"],  # of a key's policy: this key
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": whose}},
            )
        )

    def _role(self) -> ExecutionRole:
        """Reads models, decrypts them, pulls our images."""
        role = ExecutionRole(self, "Role")
        for statement in (
            iam.PolicyStatement(
                actions=["s3:GetObject"],
                resources=[self.weights.arn_for_objects(keys) for keys in READ],
            ),
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[self.weights.bucket_arn],
                conditions={"StringLike": {"s3:prefix": list(READ)}},
            ),
            iam.PolicyStatement(actions=["kms:Decrypt"], resources=[self.key.key_arn]),
        ):
            role.add_to_policy(statement)
        for repository_arn in (self._assets_repository_arn(), self.images.repository_arn):
            role.allow_pull(repository_arn)
        return role

    def _assets_repository_arn(self) -> str:
        """The ECR repository of `cdk bootstrap`, where the CDK CLI publishes the runtime's image."""
        assert isinstance(self.synthesizer, DefaultStackSynthesizer)
        qualifier = self.synthesizer.bootstrap_qualifier
        assert qualifier is not None
        name = DefaultStackSynthesizer.DEFAULT_IMAGE_ASSETS_REPOSITORY_NAME.replace("${Qualifier}", qualifier)
        return self.format_arn(service="ecr", resource="repository", resource_name=Fn.sub(name))

    def _export(self) -> None:
        """Export what serving stacks import, whether or not one does now.

        Otherwise the exports would follow the models at hand, and CloudFormation refuses to drop one that is in use.
        """
        for value in (
            self.weights.bucket_name,
            self.weights.bucket_arn,
            self.reports.bucket_name,
            self.reports.bucket_arn,
            self.images.repository_name,
            self.images.repository_arn,
            self.key.key_arn,
            self.role.role_arn,
            self.role.role_name,
            self.log_group.log_group_name,
            self.log_group.log_group_arn,
        ):
            self.export_value(value)

    def _acknowledge(self) -> None:
        """cdk-nag's findings that stay, each with its reason."""
        acknowledge(self.reports, "S1", "CloudTrail's data events log access where that is wanted")
        for keys in READ:
            acknowledge_objects(self.role, self.weights, keys, "an old model is read while a new one rolls out or back")


def _given(env: Environment | None) -> tuple[str | None, str | None]:
    return (None, None) if env is None else (env.account, env.region)
