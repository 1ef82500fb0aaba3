"""What SageMaker is asked for a job that makes an artifact: CreateProcessingJob's, or CreateTrainingJob's parameters.

Not the job's name, which its Lambda gives, nor who may ask (prepared.py). Limits:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateProcessingJob.html, API_CreateTrainingJob.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heavylift.plan.facts import instances

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam

    from heavylift.plan.parts import Job
    from heavylift_cdk.model_data import ModelData
    from heavylift_cdk.weights import Weights

FOLDER = "/opt/ml/processing"
OUTPUT = "jobs/training/"  # below it SageMaker puts <job>/output/model/


def request(job: Job, model: ModelData, weights: Weights, *, image: str, role: iam.IRole) -> dict[str, Any]:
    """The parameters of the job's own service; `image` is its URI."""
    of_either = {
        "StoppingCondition": {"MaxRuntimeInSeconds": job.max_seconds},
        "Environment": job.options,
        "RoleArn": role.role_arn,
        "Tags": [{"Key": "heavylift:artifact", "Value": job.key}],
    }
    made = _processing if job.service == "processing" else _training
    return {**made(job, model, weights, image), **of_either}


def _processing(job: Job, model: ModelData, weights: Weights, image: str) -> dict[str, Any]:
    return {
        "AppSpecification": {"ImageUri": image, "ContainerArguments": [job.kind]},
        "ProcessingInputs": [
            {
                "InputName": "model",
                "S3Input": {
                    "S3Uri": model.uri,
                    "LocalPath": f"{FOLDER}/input/model",
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
                    "S3Output": {
                        "S3Uri": weights.bucket.s3_url_for_object(job.prefix),
                        "LocalPath": f"{FOLDER}/output/model",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ],
            "KmsKeyId": weights.key.key_arn,
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": job.instance_type,
                "VolumeSizeInGB": job.volume_size_in_gb,
            }
        },
        "NetworkConfig": {"EnableNetworkIsolation": True},
    }


def _training(job: Job, model: ModelData, weights: Weights, image: str) -> dict[str, Any]:
    """The image's own `train`, which SageMaker calls, reads the channel `model` and writes /opt/ml/model."""
    fact = instances().get(job.instance_type)
    machine = {"InstanceType": job.instance_type, "InstanceCount": 1}
    if fact is None or not fact.nvme:  # SageMaker gives types with disks of their own no volume (API_ResourceConfig)
        machine["VolumeSizeInGB"] = job.volume_size_in_gb
    return {
        "AlgorithmSpecification": {"TrainingImage": image, "TrainingInputMode": "File"},
        "InputDataConfig": [
            {
                "ChannelName": "model",
                "InputMode": "File",
                "CompressionType": "None",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": model.uri,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        "OutputDataConfig": {
            "S3OutputPath": weights.bucket.s3_url_for_object(OUTPUT.rstrip("/")),
            "CompressionType": "NONE",
            "KmsKeyId": weights.key.key_arn,
        },
        "ResourceConfig": machine,
        "EnableNetworkIsolation": True,
    }
