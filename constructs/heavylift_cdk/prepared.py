"""Prepared: a model's artifact in the weight bucket, made ahead of time by a SageMaker processing job of our own image.

Not the job's choice (heavylift.plan.ahead), nor what it runs (the runtime's `partition` and `compile`). The job has no
network: SageMaker brings the model and takes the artifact, as the Processing API's inputs and outputs say
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html).
"""

from __future__ import annotations

from typing import Any

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from heavylift.plan import parts
from heavylift_cdk.checks import acknowledge, acknowledge_objects
from heavylift_cdk.execution_role import ExecutionRole
from heavylift_cdk.job import Job
from heavylift_cdk.model_data import ModelData
from heavylift_cdk.runtime_image import RuntimeImage
from heavylift_cdk.weights import Weights

FOLDER = "/opt/ml/processing"
DOCUMENTS = {"partition": ("partition.json", "partition.json"), "compile": ("neuron.json", "manifest.json")}
"""By the kind of job, where the runtime says what the artifact was made for, and its files: docs/formats.md."""
JOB_NAMES = "heavylift-*"


class Preparing(Construct):
    """What starts the jobs of one stack and waits for them, and the role that they run with."""

    def __init__(self, scope: Construct, id: str, *, weights: Weights, log_group: logs.ILogGroup) -> None:
        super().__init__(scope, id)
        self.weights = weights
        self.role = ExecutionRole(self, "Role")
        jobs = Stack.of(self).format_arn(
            service="sagemaker",
            resource="processing-job",
            resource_name=JOB_NAMES,
            arn_format=ArnFormat.SLASH_RESOURCE_NAME,
        )
        actions = ("Create", "Describe", "Stop")
        statements = [
            iam.PolicyStatement(
                actions=[*(f"sagemaker:{action}ProcessingJob" for action in actions), "sagemaker:AddTags"],
                resources=[jobs],
            ),
            iam.PolicyStatement(
                actions=["iam:PassRole"],
                resources=[self.role.role_arn],
                conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
            ),
            iam.PolicyStatement(
                actions=["s3:GetObject", "s3:PutObject"],
                resources=[weights.bucket.arn_for_objects("artifacts/*.json")],
            ),
        ]
        self.job = Job(
            self,
            "Job",
            kind="processing",
            weights=weights,
            log_group=log_group,
            environment={},
            statements=statements,
            ended=events.EventPattern(
                source=["aws.sagemaker"],
                detail_type=["SageMaker Processing Job State Change"],
                detail={
                    "ProcessingJobName": [{"prefix": JOB_NAMES.removesuffix("*")}],
                    "ProcessingJobStatus": ["Completed", "Failed", "Stopped"],
                },
            ),
        )
        where = "arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>:processing-job"
        acknowledge(self, f"IAM5[Resource::{where}/{JOB_NAMES}]", "each job has a name of its own, which begins so")
        acknowledge_objects(self, weights.bucket, "artifacts/*.json", "the lists and manifests of artifacts, by key")


class Prepared(Construct):
    """One artifact: `data`, which exists when this has been deployed.

    A job runs only where the artifact of this key is not there; a roll-back to another key finds that one's. `source`:
    the digest of the model's files, in the bucket before.
    """

    def __init__(
        self, scope: Construct, id: str, *, preparing: Preparing, job: parts.Job, source: str, image: RuntimeImage
    ) -> None:
        super().__init__(scope, id)
        weights, bound = preparing.weights, image.bind(Construct(self, "Runs"))
        preparing.role.allow_pull(bound.repository_arn)
        model = weights.model(source)
        rights = iam.Policy(
            self,
            "Rights",
            roles=[preparing.role],
            statements=[
                *model.statements(),
                iam.PolicyStatement(
                    actions=["s3:PutObject"], resources=[weights.bucket.arn_for_objects(f"{job.prefix}*")]
                ),
                iam.PolicyStatement(actions=["kms:GenerateDataKey"], resources=[weights.key.key_arn]),
            ],
        )
        for keys in (f"weights/{source}/*", f"{job.prefix}*"):
            acknowledge_objects(rights, weights.bucket, keys, "what is below it is one model, or one artifact")
        request = _request(job, model.uri, weights.bucket.s3_url_for_object(job.prefix), bound.uri, preparing)
        properties = {
            "Key": job.key,
            "Bucket": weights.bucket.bucket_name,
            "Prefix": job.prefix,
            "MadeFor": DOCUMENTS[job.kind][0],
            "Files": DOCUMENTS[job.kind][1],
            "Expected": Stack.of(self).to_json_string(job.expected),
            "Job": Stack.of(self).to_json_string(request),
        }
        made = preparing.job.resource(self, "Resource", "Custom::HeavyliftPrepared", properties)
        made.node.add_dependency(rights, preparing.role)
        if bound.after is not None:
            made.node.add_dependency(bound.after)
        self.data: ModelData = ModelData.from_prefix(weights.bucket, job.prefix)


def _request(job: parts.Job, source: str, target: str, image: str, preparing: Preparing) -> dict[str, Any]:
    """CreateProcessingJob's parameters, but for the name."""
    given, made = f"{FOLDER}/input/model", f"{FOLDER}/output/model"
    return {
        "AppSpecification": {
            "ImageUri": image,
            "ContainerArguments": [job.kind],
        },
        "ProcessingInputs": [
            {
                "InputName": "model",
                "S3Input": {
                    "S3Uri": source,
                    "LocalPath": given,
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                    "S3DataDistributionType": "FullyReplicated",
                    "S3CompressionType": "None",
                },
            }
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "model",
                    "S3Output": {"S3Uri": target, "LocalPath": made, "S3UploadMode": "EndOfJob"},
                }
            ],
            "KmsKeyId": preparing.weights.key.key_arn,
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": job.instance_type,
                "VolumeSizeInGB": job.volume_size_in_gb,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": job.max_seconds},
        "NetworkConfig": {"EnableNetworkIsolation": True},
        "Environment": job.options,
        "RoleArn": preparing.role.role_arn,
        "Tags": [{"Key": "heavylift:artifact", "Value": job.key}],
    }
