"""The Lambda of the long jobs between CloudFormation, which is a server here, and AWS's answers. Not a test."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from heavylift_cdk.lambdas.jobs import index

BUCKET, DIGEST, REVISION, KEY = "weights-bucket", "d1" * 32, "0a" * 20, "e2" * 32
STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/heavylift-x/12ab"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:heavylift-x-jobs"
NAME = f"heavylift-{KEY[:32]}-1"
EXPECTED = {"source_digest": DIGEST, "dtype": "fp32", "tensor_parallel_degree": 2}
PREPARED = {
    "Key": KEY, "Bucket": BUCKET, "Prefix": f"artifacts/{KEY}/", "MadeFor": "partition.json", "Files": "partition.json",
    "Expected": json.dumps(EXPECTED), "Job": json.dumps({"AppSpecification": {"ImageUri": "i"}}),
}  # fmt: skip


@dataclass
class Fakes:
    """AWS's answers about jobs and stacks, and what was asked of it; S3 is moto's."""

    status: str = "CREATE_IN_PROGRESS"
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    builds: dict[str, str] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    started: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    invoked: list[dict[str, Any]] = field(default_factory=list)

    class exceptions:
        ClientError = ClientError

        class ImageNotFoundException(Exception):
            pass

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        return {"Stacks": [{"StackStatus": self.status}]}

    def create_processing_job(self, **request: Any) -> None:
        if self.refusals:
            raise ClientError({"Error": {"Code": "ValidationException", "Message": self.refusals.pop(0)}}, "Create")
        self.started.append(request)
        self.jobs[request["ProcessingJobName"]] = {"ProcessingJobStatus": "InProgress"}

    def describe_processing_job(self, ProcessingJobName: str) -> dict[str, Any]:
        if ProcessingJobName not in self.jobs:
            error = {"Code": "ValidationException", "Message": "Could not find requested job with name"}
            raise ClientError({"Error": error}, "Describe")
        return self.jobs[ProcessingJobName]

    def stop_processing_job(self, ProcessingJobName: str) -> None:
        self.stopped.append(ProcessingJobName)

    def create_training_job(self, **request: Any) -> None:
        self.started.append(request)
        self.jobs[request["TrainingJobName"]] = {"TrainingJobStatus": "InProgress"}

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:
        if TrainingJobName not in self.jobs:
            error = {"Code": "ValidationException", "Message": "Requested resource not found."}
            raise ClientError({"Error": error}, "Describe")
        made = f"s3://{BUCKET}/jobs/training/{TrainingJobName}/output/model/"
        return {**self.jobs[TrainingJobName], "ModelArtifacts": {"S3ModelArtifacts": made}}

    def stop_training_job(self, TrainingJobName: str) -> None:
        self.stopped.append(TrainingJobName)

    def start_build(self, **request: Any) -> dict[str, Any]:
        self.started.append(request)
        self.builds["uuid-1"] = "IN_PROGRESS"
        return {"build": {"id": "project:uuid-1"}}

    def batch_get_builds(self, ids: list[str]) -> dict[str, Any]:
        status = self.builds[ids[0].removeprefix("project:")]
        return {"builds": [{"buildStatus": status, "logs": {"deepLink": "the log"}}]}

    def stop_build(self, id: str) -> None:
        self.stopped.append(id)

    def describe_images(self, repositoryName: str, imageIds: list[dict[str, str]]) -> dict[str, Any]:
        if imageIds[0]["imageTag"] not in self.images:
            raise self.exceptions.ImageNotFoundException
        return {"imageDetails": [{}]}

    def invoke(self, **request: Any) -> None:
        self.invoked.append(request)


@dataclass
class Context:
    """Lambda's, of a function that may run for so long yet."""

    milliseconds: int = 900_000
    invoked_function_arn: str = FUNCTION

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@dataclass
class Waiting:
    """CloudFormation: its custom resource's answers, and what its wait condition was told; `aws` is the rest of AWS."""

    aws: Fakes
    monkeypatch: pytest.MonkeyPatch
    url: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    gone: bool = False
    """The wait condition's handle was deleted."""

    def ask(
        self, kind: str, wanted: dict[str, str], what: str = "Create", was: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """A request; all answers so far. `was`: the properties before an update, but for what the wait condition is
        told by, where they say it."""
        self.monkeypatch.setenv("KIND", kind)
        event = {
            "RequestType": what, "ResponseURL": f"{self.url}/answer", "StackId": STACK, "RequestId": "request-1",
            "LogicalResourceId": "Made", "ResourceProperties": {**wanted, "Told": f"{self.url}/told"},
        }  # fmt: skip
        index.handler(event if was is None else {**event, "OldResourceProperties": was}, Context())
        return self.answers

    def ends(self, name: str, status: str = "Completed", *, context: Context | None = None, **says: str) -> None:
        """EventBridge tells of a SageMaker job."""
        api = "Training" if index.os.environ["KIND"] == "training" else "Processing"
        self.aws.jobs[name] = {f"{api}JobStatus": status, **says}
        index.handler({"detail": {f"{api}JobName": name}}, Context() if context is None else context)

    def built(self, status: str) -> None:
        """EventBridge tells of the CodeBuild build."""
        self.aws.builds["uuid-1"] = status
        index.handler({"detail": {"build-id": "arn:aws:codebuild:us-east-1:1:build/project:uuid-1"}}, Context())


@contextmanager
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    """A stack that waits, its bucket empty."""
    for name, value in {
        "AWS_DEFAULT_REGION": "us-east-1", "BUCKET": BUCKET, "STACK": STACK, "PROJECT": "project",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    stack = Waiting(Fakes(), monkeypatch)

    class Keeper(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            told = self.path == "/told"
            (stack.told if told else stack.answers).append(
                json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(404 if told and stack.gone else 200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with mock_aws(), HTTPServer(("127.0.0.1", 0), Keeper) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        stack.url = f"http://127.0.0.1:{server.server_port}"
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        monkeypatch.setattr(boto3, "client", lambda service: s3 if service == "s3" else stack.aws)
        try:
            yield stack
        finally:
            s3.close()
            server.shutdown()
            thread.join()


def put(key: str, content: bytes) -> None:
    """An object in the bucket."""
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)


def keys(prefix: str) -> list[str]:
    """What is in the bucket below it."""
    found = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return sorted(item["Key"].removeprefix(prefix) for item in found)


def artifact(**changes: Any) -> None:
    """What a processing job has made, complete."""
    body = b"weights"
    files = [{"path": "rank-000-of-002.safetensors", "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}]
    put(f"artifacts/{KEY}/rank-000-of-002.safetensors", body)
    put(f"artifacts/{KEY}/partition.json", json.dumps({**EXPECTED, "files": files, **changes}).encode())
