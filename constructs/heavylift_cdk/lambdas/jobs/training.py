"""An artifact as a job: a SageMaker training job of our own image compiles a model on NeuronCores, which no processing
job has.

Not what it runs: the runtime's `train`. SageMaker puts what a training job makes below the job's own name; from there
it is copied, inside S3, to the prefix that bears the artifact's key, and then compared and declared by artifact.py.
"""

import time
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig

from .artifact import OtherArtifact, declare, document, ready, sizes
from .sagemaker_job import SageMakerJob
from .unfinished import Unfinished

__all__ = ["IDENTITY", "WHAT", "begin", "fault", "name_of", "over", "ready", "stop"]

WHAT, IDENTITY = "training job", "Key"
JOB = SageMakerJob("Training")
PARTS = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=64 << 20)  # each is copied by one request
name_of, over, stop = JOB.name_of, JOB.over, JOB.stop


def begin(wanted: dict[str, Any], request: str) -> str:
    """The job at work for this key, or the one that did it, else a new one: its name."""
    return JOB.begin(wanted, lambda name: document(wanted, made_in(name)[1] + wanted["MadeFor"]) is not None)


def fault(wanted: dict[str, Any], name: str, until: float) -> str | None:
    """Why there is no artifact, or None: then it has been declared. Raises Unfinished where `until`, of the monotonic
    clock, comes before the last file."""
    if (failure := JOB.failure(name)) is not None:
        return failure
    bucket, prefix = made_in(name)
    s3, there = boto3.client("s3"), sizes(wanted["Bucket"], wanted["Prefix"])
    for path, size in sizes(bucket, prefix).items():
        if there.get(path) == size:  # by the Lambda before this one; a copy is there whole, or not at all
            continue
        if time.monotonic() > until:
            raise Unfinished
        s3.copy({"Bucket": bucket, "Key": prefix + path}, wanted["Bucket"], wanted["Prefix"] + path, Config=PARTS)
    try:
        declare(wanted)
    except OtherArtifact as error:
        return (
            f"the training job {name} did not make what was asked: {error}; so must what is in s3://{bucket}/{prefix}"
        )
    return None


def made_in(name: str) -> tuple[str, str]:
    """The bucket, and the prefix of the files that a job has made."""
    uri: str = JOB.description(name)["ModelArtifacts"]["S3ModelArtifacts"]
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, f"{key.rstrip('/')}/"
