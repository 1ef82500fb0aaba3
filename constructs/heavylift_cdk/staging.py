"""Staging: a CodeBuild project that brings models from the hub into the weight bucket; Staged: one model, brought.

CodeBuild, and not SageMaker Processing: it needs no image of ours before the first is built, no quota of ml. instances,
reads its token from Secrets Manager by itself, and runs for hours; files stream through, so its disk does not matter.
Not the copying: heavylift.weights.stage.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path

from aws_cdk import Duration, IgnoreMode
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

import heavylift
from heavylift_cdk.bounds import refuse
from heavylift_cdk.checks import acknowledge_objects
from heavylift_cdk.job import Job, build_ended, build_rights
from heavylift_cdk.model_data import ModelData
from heavylift_cdk.weights import Weights

CORE = Path(heavylift.__file__).resolve().parents[1]
# what the core reads of it
RUNTIME = ("__init__", "errors", "keys", "readings", "engines/__init__", "engines/registry", "engines/tasks")
EXCLUDE = (
    "**",
    "!heavylift/**",
    *(f"!{root}heavylift_runtime/{module}.py" for root in ("runtime/", "") for module in RUNTIME),  # checkout, wheel
    "**/__pycache__",
    "**/.*",
)
COMMAND = (
    "PYTHONPATH=.:runtime python -m heavylift.weights.stage "
    '--id "$MODEL_ID" --revision "$REVISION" --digest "$DIGEST" --bucket "$BUCKET"'
)


class Staging(Construct):
    """The project, and the job that starts it and answers for it. `token`: the hub's, for gated models."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        weights: Weights,
        log_group: logs.ILogGroup,
        token: secretsmanager.ISecret | None = None,
        timeout: Duration | None = None,
    ) -> None:
        super().__init__(scope, id)
        self.weights = weights
        code = s3_assets.Asset(
            self, "Code", path=str(CORE), exclude=list(EXCLUDE), ignore_mode=IgnoreMode.DOCKER
        )  # fmt: skip
        # The CDK's own Project gives its role every log group of CodeBuild, and every report.
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"))
        policy = iam.Policy(self, "Rights", roles=[role], statements=_copying(weights, code, token))
        log_group.grant_write(role)
        self.project = codebuild.CfnProject(
            self,
            "Project",
            description="Heavylift: brings models from the hub into the weight bucket",
            service_role=role.role_arn,
            source=codebuild.CfnProject.SourceProperty(
                type="S3", location=f"{code.s3_bucket_name}/{code.s3_object_key}", build_spec=_commands()
            ),
            artifacts=codebuild.CfnProject.ArtifactsProperty(type="NO_ARTIFACTS"),
            environment=codebuild.CfnProject.EnvironmentProperty(
                type="LINUX_CONTAINER",
                compute_type="BUILD_GENERAL1_LARGE",
                image="aws/codebuild/amazonlinux-x86_64-standard:5.0",
                environment_variables=_variables(weights, token),
            ),
            encryption_key=weights.key.key_arn,
            timeout_in_minutes=Duration.hours(8).to_minutes() if timeout is None else timeout.to_minutes(),
            logs_config=codebuild.CfnProject.LogsConfigProperty(
                cloud_watch_logs=codebuild.CfnProject.CloudWatchLogsConfigProperty(
                    status="ENABLED", group_name=log_group.log_group_name, stream_name="staging"
                )
            ),
        )
        self.project.node.add_dependency(policy)
        self.job = Job(
            self,
            "Job",
            kind="staging",
            weights=weights,
            log_group=log_group,
            environment={"PROJECT": self.project.ref},
            statements=[build_rights(self.project.attr_arn)],
            ended=build_ended(self.project.ref),
        )
        acknowledge_objects(self, weights.bucket, "weights/*", "every model has a key of its own")


class Staged(Construct):
    """One model of the hub in the weight bucket: `data`, which exists when this has been deployed.

    It runs again only when id, revision or digest change, and then only what is not there. `digest` is the lock's.
    """

    def __init__(self, scope: Construct, id: str, *, staging: Staging, model: str, revision: str, digest: str) -> None:
        super().__init__(scope, id)
        refuse(_faults(revision, digest))
        properties = {"Id": model, "Revision": revision, "Digest": digest}
        staging.job.resource(self, "Resource", "Custom::HeavyliftStaged", properties, made=digest[:16])
        self.data: ModelData = staging.weights.model(digest)


def _faults(revision: str, digest: str) -> Iterator[str]:
    for what, value, length in (("revision", revision, 40), ("digest", digest, 64)):
        if len(value) != length or set(value) - set("0123456789abcdef"):
            yield f"'{what}' must be {length} hexadecimal digits, so that it names one content: got '{value}'"


def _commands() -> str:
    """The buildspec (AWS CodeBuild user guide, "Build specification reference"); JSON is YAML."""
    install = {"runtime-versions": {"python": "3.13"}, "commands": [f"pip install --quiet {_pins()}"]}
    return json.dumps({"version": "0.2", "phases": {"install": install, "build": {"commands": [COMMAND]}}}, indent=2)


def _variables(
    weights: Weights, token: secretsmanager.ISecret | None
) -> list[codebuild.CfnProject.EnvironmentVariableProperty]:
    variable = codebuild.CfnProject.EnvironmentVariableProperty
    found = [variable(name="BUCKET", value=weights.bucket.bucket_name)]
    if token is not None:
        found.append(variable(name="HF_TOKEN", type="SECRETS_MANAGER", value=token.secret_arn))
    return found


def _copying(
    weights: Weights, code: s3_assets.Asset, token: secretsmanager.ISecret | None
) -> list[iam.PolicyStatement]:
    """What the job needs: its code, the token, and what heavylift.weights.push does with S3."""
    bucket = weights.bucket
    found = [
        iam.PolicyStatement(actions=["s3:GetObject"], resources=[code.bucket.arn_for_objects(code.s3_object_key)]),
        iam.PolicyStatement(
            actions=["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
            resources=[bucket.arn_for_objects("weights/*")],
        ),
        iam.PolicyStatement(actions=["s3:ListBucket", "s3:ListBucketMultipartUploads"], resources=[bucket.bucket_arn]),
        iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[weights.key.key_arn]),
    ]
    if token is not None:
        found.append(iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[token.secret_arn]))
        if token.encryption_key is not None:
            found.append(iam.PolicyStatement(actions=["kms:Decrypt"], resources=[token.encryption_key.key_arn]))
    return found


def _pins() -> str:
    """What the core needs, as the installed package says: pinned, and quoted for the shell."""
    needed = importlib.metadata.requires("heavylift") or []
    return " ".join(json.dumps(each) for each in sorted(needed) if "extra ==" not in each)
