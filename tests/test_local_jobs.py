"""Processing jobs in the embedded SageMaker: a real process of the runtime, what it says when it fails, its end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.embedded import Embedded
from tests.local_stack import ROLE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
BUCKET = "processing-jobs"


def request(name: str, **options: str) -> dict[str, Any]:
    place = {"S3DataType": "S3Prefix", "S3InputMode": "File", "LocalPath": "/opt/ml/processing/input/model"}
    made = {"S3UploadMode": "EndOfJob", "LocalPath": "/opt/ml/processing/output/model"}
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": "image", "ContainerArguments": ["partition"]},
        "ProcessingInputs": [{"InputName": "model", "S3Input": {"S3Uri": f"s3://{BUCKET}/in/", **place}}],
        "ProcessingOutputConfig": {
            "Outputs": [{"OutputName": "model", "S3Output": {"S3Uri": f"s3://{BUCKET}/{name}/", **made}}]
        },
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 30}
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 120},
        "Environment": {"OPTION_ENGINE": "native", "OPTION_TENSOR_PARALLEL_DEGREE": "2", **options},
    }


@pytest.fixture(scope="module")
def sagemaker(local_aws: Embedded, request: pytest.FixtureRequest) -> Any:
    """boto3's SageMaker, beside a bucket with tiny-t5 in it."""
    s3 = local_aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    folder = Path(__file__).parent.parent / "models" / "tiny-t5"
    for path in folder.iterdir():
        s3.put_object(Bucket=BUCKET, Key=f"in/{path.name}", Body=path.read_bytes())
    return local_aws.client("sagemaker")


def ended(sagemaker: Any, name: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (job := sagemaker.describe_processing_job(ProcessingJobName=name))["ProcessingJobStatus"] == "InProgress":
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    found: dict[str, Any] = job
    return found


def test_a_job_makes_what_the_runtime_makes(sagemaker: Any, local_aws: Embedded) -> None:
    sagemaker.create_processing_job(**request("good"))

    job = ended(sagemaker, "good")

    assert job["ProcessingJobStatus"] == "Completed", job
    s3 = local_aws.client("s3")
    keys = [row["Key"] for row in s3.list_objects_v2(Bucket=BUCKET, Prefix="good/")["Contents"]]
    assert {"good/partition.json", "good/rank-001-of-002.safetensors", "good/tokenizer.json"} <= set(keys)
    made = json.load(s3.get_object(Bucket=BUCKET, Key="good/partition.json")["Body"])
    assert made["tensor_parallel_degree"] == 2
    assert not list((local_aws.aws.home / "jobs" / "good").glob("*/")), "its folder is gone, its log stays"


def test_a_job_that_fails_says_what_the_container_said_and_uploads_nothing(sagemaker: Any, local_aws: Embedded) -> None:
    sagemaker.create_processing_job(**request("bad", OPTION_TENSOR_PARALLEL_DEGREE="3"))

    job = ended(sagemaker, "bad")

    assert job["ProcessingJobStatus"] == "Failed"
    assert "3" in job["ExitMessage"] and "exited with code" in job["FailureReason"]
    assert "Contents" not in local_aws.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="bad/")


def test_a_job_can_be_stopped_and_a_name_is_used_once(sagemaker: Any) -> None:
    sagemaker.create_processing_job(**request("stopped"))
    sagemaker.stop_processing_job(ProcessingJobName="stopped")

    assert ended(sagemaker, "stopped")["ProcessingJobStatus"] == "Stopped"
    with pytest.raises(ClientError, match="already exists"):
        sagemaker.create_processing_job(**request("stopped"))
    with pytest.raises(ClientError, match="is in status Stopped"):
        sagemaker.stop_processing_job(ProcessingJobName="stopped")
    with pytest.raises(ClientError, match="Could not find requested job"):
        sagemaker.describe_processing_job(ProcessingJobName="nobody")


OUTSIDE = {"S3Uri": f"s3://{BUCKET}/in/", "S3DataType": "S3Prefix", "LocalPath": "/opt/ml/processing/../../etc"}
INF2 = {"InstanceCount": 1, "InstanceType": "ml.inf2.xlarge", "VolumeSizeInGB": 30}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ProcessingInputs": [{"InputName": "m", "S3Input": OUTSIDE}]}, "LocalPath is"),
        ({"AppSpecification": {"ImageUri": "i", "ContainerEntrypoint": ["sh"]}}, "the image's own entrypoint"),
        ({"ProcessingResources": {"ClusterConfig": INF2}}, "InstanceType is 'ml.inf2.xlarge'; one of"),
        ({"Environment": {"A": "b" * 300}}, "has length 300; at most 256"),
    ],
)
def test_what_sagemaker_or_a_local_process_cannot_do_is_refused(
    sagemaker: Any, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ClientError, match=sentence) as raised:
        sagemaker.create_processing_job(**{**request("refused"), **change})

    assert raised.value.response["Error"]["Code"] == "ValidationException"
