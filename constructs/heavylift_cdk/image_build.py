"""ImageBuild: the runtime's image, built by CodeBuild from the checkout's container/ and runtime/, and kept in ECR.

Not the Dockerfiles, and not the image's use: runtime_image.py. For who has no Docker. The tag is the inputs' hash and
cannot be overwritten, so the same inputs are built once, whichever stack asks first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from aws_cdk import Aws, Duration, IgnoreMode
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from heavylift_cdk.checks import acknowledge
from heavylift_cdk.docker import build_arguments
from heavylift_cdk.job import Job, build_ended, build_rights
from heavylift_cdk.weights import Weights

PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
PUSH = (*PULL, "ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage")
LOGIN = 'aws ecr get-login-password --region "$AWS_REGION" | docker login --username AWS --password-stdin "$REGISTRY"'


class ImageBuild(Construct):
    """`uri`, which exists when this has been deployed."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        hardware: str,
        checkout: Path,
        exclude: Sequence[str],
        repository: ecr.IRepository,
        weights: Weights,
        log_group: logs.ILogGroup,
        arguments: Mapping[str, str],
    ) -> None:
        """`arguments`: the Dockerfile's ARGs that are not its own, such as a public image to build on."""
        super().__init__(scope, id)
        source = s3_assets.Asset(
            self, "Source", path=str(checkout), exclude=list(exclude), ignore_mode=IgnoreMode.DOCKER
        )  # fmt: skip
        content = f"{source.asset_hash} {json.dumps(dict(arguments))}"
        tag = f"{hardware}-{hashlib.sha256(content.encode()).hexdigest()[:40]}"
        # The CDK's own Project gives its role every log group of CodeBuild, and every report.
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("codebuild.amazonaws.com"))
        rights = iam.Policy(self, "Rights", roles=[role], statements=_building(source, repository))
        acknowledge(rights, "IAM5[Resource::*]", "GetAuthorizationToken knows no resource")
        log_group.grant_write(role)
        project = codebuild.CfnProject(
            self,
            "Project",
            description="Heavylift: builds the runtime's image",
            service_role=role.role_arn,
            source=codebuild.CfnProject.SourceProperty(
                type="S3",
                location=f"{source.s3_bucket_name}/{source.s3_object_key}",
                build_spec=buildspec(hardware, arguments),
            ),
            artifacts=codebuild.CfnProject.ArtifactsProperty(type="NO_ARTIFACTS"),
            environment=codebuild.CfnProject.EnvironmentProperty(
                type="LINUX_CONTAINER",
                compute_type="BUILD_GENERAL1_LARGE",
                image="aws/codebuild/amazonlinux-x86_64-standard:5.0",
                privileged_mode=True,
                environment_variables=[
                    codebuild.CfnProject.EnvironmentVariableProperty(name=name, value=value)
                    for name, value in _variables(repository).items()
                ],
            ),
            encryption_key=weights.key.key_arn,
            timeout_in_minutes=Duration.hours(2).to_minutes(),
            logs_config=codebuild.CfnProject.LogsConfigProperty(
                cloud_watch_logs=codebuild.CfnProject.CloudWatchLogsConfigProperty(
                    status="ENABLED", group_name=log_group.log_group_name, stream_name="image"
                )
            ),
        )
        project.node.add_dependency(rights)
        acknowledge(project, "CB3", "Docker runs in the build, and nothing of ours but the Dockerfile runs in Docker")
        there = iam.PolicyStatement(actions=["ecr:DescribeImages"], resources=[repository.repository_arn])
        job = Job(
            self,
            "Job",
            kind="image",
            weights=weights,
            log_group=log_group,
            environment={"PROJECT": project.ref},
            statements=[build_rights(project.attr_arn), there],
            ended=build_ended(project.ref),
        )
        wanted = {"Repository": repository.repository_name, "Tag": tag}
        job.resource(self, "Resource", "Custom::HeavyliftImage", wanted, made=tag.rpartition("-")[2][:16])
        self.uri = repository.repository_uri_for_tag(tag)


def buildspec(hardware: str, arguments: Mapping[str, str]) -> str:
    """The commands (AWS CodeBuild user guide, "Build specification reference"); JSON is YAML."""
    build = " ".join(["docker", "build", *build_arguments(hardware, '"$REPOSITORY:$TAG"', ".", arguments)])
    phases = {
        "pre_build": {"commands": [LOGIN]},
        "build": {"commands": [build, 'docker push "$REPOSITORY:$TAG"']},
    }
    return json.dumps({"version": "0.2", "env": {"shell": "bash"}, "phases": phases}, indent=2)


def _variables(repository: ecr.IRepository) -> dict[str, str]:
    registry = f"{Aws.ACCOUNT_ID}.dkr.ecr.{Aws.REGION}.{Aws.URL_SUFFIX}"
    return {"DOCKER_BUILDKIT": "1", "REGISTRY": registry, "REPOSITORY": repository.repository_uri}


def _building(source: s3_assets.Asset, repository: ecr.IRepository) -> list[iam.PolicyStatement]:
    """What the build needs: its source, a login, to push to our repository. What it is based on is public."""
    return [
        iam.PolicyStatement(actions=["s3:GetObject"], resources=[source.bucket.arn_for_objects(source.s3_object_key)]),
        iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"]),
        iam.PolicyStatement(actions=list(PUSH), resources=[repository.repository_arn]),
    ]
