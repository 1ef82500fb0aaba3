"""The Lambda of the long jobs: when it starts one, when it answers CloudFormation, and with what."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from heavylift_cdk.lambdas.jobs import builds, image, index, processing, sagemaker_job, staging, training

BUCKET, DIGEST, REVISION, KEY = "weights-bucket", "d1" * 32, "0a" * 20, "e2" * 32
STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/heavylift-x/12ab"
STAGED = {"Id": "google/flan-t5-xxl", "Revision": REVISION, "Digest": DIGEST}
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


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    for name, value in {
        "AWS_DEFAULT_REGION": "us-east-1", "BUCKET": BUCKET, "STACK": STACK, "PROJECT": "project",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    fakes = Fakes()
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        monkeypatch.setattr(boto3, "client", lambda service: s3 if service == "s3" else fakes)
        yield fakes
        s3.close()


@pytest.fixture
def cloudformation() -> Iterator[list[dict[str, Any]]]:
    """The replies that were put, first the URL that takes them."""
    replies: list[dict[str, Any]] = []

    class Keeper(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            replies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Keeper) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        replies.append({"url": f"http://127.0.0.1:{server.server_port}/put"})
        yield replies
        server.shutdown()
        thread.join()


def ask(
    replies: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    wanted: dict[str, str],
    what: str = "Create",
) -> list[dict[str, Any]]:
    """A request of CloudFormation; its answers so far."""
    monkeypatch.setenv("KIND", kind)
    index.handler(
        {
            "RequestType": what, "ResponseURL": replies[0]["url"], "StackId": STACK, "RequestId": "request-1",
            "LogicalResourceId": "Made", "ResourceProperties": dict(wanted),
        },
        None,
    )  # fmt: skip
    return replies[1:]


def put(key: str, content: bytes) -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=content)


def artifact(**changes: Any) -> None:
    """What a job has made, complete."""
    body = b"weights"
    files = [{"path": "rank-000-of-002.safetensors", "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}]
    put(f"artifacts/{KEY}/rank-000-of-002.safetensors", body)
    put(f"artifacts/{KEY}/partition.json", json.dumps({**EXPECTED, "files": files, **changes}).encode())


def job_ended(aws: Fakes, name: str, status: str = "Completed", **told: str) -> None:
    aws.jobs[name] = {"ProcessingJobStatus": status, **told}
    index.handler({"detail": {"ProcessingJobName": name}}, None)


NAME = f"heavylift-{KEY[:32]}-1"


def test_an_artifact_is_made_declared_and_found_the_next_time(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(cloudformation, monkeypatch, "processing", PREPARED) == []
    assert [each["ProcessingJobName"] for each in aws.started] == [NAME]

    artifact()
    job_ended(aws, NAME)

    (reply,) = cloudformation[1:]
    assert (reply["Status"], reply["PhysicalResourceId"]) == ("SUCCESS", KEY)
    said = json.loads(boto3.client("s3").get_object(Bucket=BUCKET, Key=f"artifacts/{KEY}.json")["Body"].read())
    assert (said["key"], said["made_for"]) == (KEY, EXPECTED)
    job_ended(aws, NAME)
    assert len(cloudformation) == 2, "an event that comes twice answers nobody"

    (_, again) = ask(cloudformation, monkeypatch, "processing", PREPARED, "Update")
    assert again["Status"] == "SUCCESS" and len(aws.started) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tensor_parallel_degree": 4}, "tensor_parallel_degree is 4, not 2"),
        ({"source_digest": "ff" * 32}, f"source_digest is '{'ff' * 32}', not '{DIGEST}'"),
        ({"files": [{"path": "gone", "size": 9, "sha256": ""}]}, "gone has None bytes, not 9"),
    ],
)
def test_what_was_made_for_something_else_is_refused(
    aws: Fakes,
    cloudformation: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    sentence: str,
) -> None:
    ask(cloudformation, monkeypatch, "processing", PREPARED)
    artifact(**changes)

    job_ended(aws, NAME)

    assert cloudformation[1]["Status"] == "FAILED"
    assert sentence in cloudformation[1]["Reason"]


def test_an_artifact_declared_for_another_key_is_refused_before_anything_runs(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(f"artifacts/{KEY}.json", json.dumps({"key": KEY, "made_for": {"tensor_parallel_degree": 8}}).encode())

    (reply,) = ask(cloudformation, monkeypatch, "processing", PREPARED)

    assert reply["Status"] == "FAILED" and "holds an artifact made for {'tensor_parallel_degree': 8}" in reply["Reason"]
    assert aws.started == []


def test_a_job_that_fails_says_what_its_container_said_and_the_next_request_starts_another(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(cloudformation, monkeypatch, "processing", PREPARED)

    job_ended(aws, NAME, "Failed", ExitMessage="3 heads do not divide", FailureReason="AlgorithmError: exit code 2")

    assert cloudformation[1]["Reason"] == (
        f"the processing job {NAME} is Failed: 3 heads do not divide; AlgorithmError: exit code 2"
    )
    ask(cloudformation, monkeypatch, "processing", PREPARED)
    assert [each["ProcessingJobName"] for each in aws.started] == [NAME, f"{NAME[:-1]}2"]


def test_a_job_that_went_on_after_cloudformation_stopped_waiting_is_joined_or_found(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.jobs[NAME] = {"ProcessingJobStatus": "InProgress"}
    assert ask(cloudformation, monkeypatch, "processing", PREPARED) == []
    assert aws.started == [], "it runs already"

    boto3.client("s3").delete_object(Bucket=BUCKET, Key=index.key(STACK, NAME))
    artifact()
    aws.jobs[NAME] = {"ProcessingJobStatus": "Completed"}
    (reply,) = ask(cloudformation, monkeypatch, "processing", PREPARED)

    assert reply["Status"] == "SUCCESS" and aws.started == []


def test_a_new_role_that_sagemaker_has_not_heard_of_is_tried_again(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(sagemaker_job.time, "sleep", pauses.append)
    aws.refusals = ["Could not assume role arn:aws:iam::1:role/x"] * 2

    assert ask(cloudformation, monkeypatch, "processing", PREPARED) == []

    assert len(pauses) == 2 and len(aws.started) == 1


def test_a_job_that_cannot_be_started_fails_its_resource_at_once(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.refusals = ["ResourceLimitExceeded: the account-level service limit is 0"]

    (reply,) = ask(cloudformation, monkeypatch, "processing", PREPARED)

    assert reply["Status"] == "FAILED" and "cannot start the processing job" in reply["Reason"]


@pytest.mark.parametrize(("status", "stops"), [("DELETE_IN_PROGRESS", True), ("ROLLBACK_IN_PROGRESS", False)])
def test_a_stack_that_is_deleted_stops_its_job_and_one_that_rolls_back_lets_it_finish(
    aws: Fakes,
    cloudformation: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    stops: bool,
) -> None:
    ask(cloudformation, monkeypatch, "processing", PREPARED)
    aws.status = status

    (reply,) = ask(cloudformation, monkeypatch, "processing", PREPARED, "Delete")

    assert reply["Status"] == "SUCCESS"
    assert aws.stopped == ([NAME] if stops else [])


def test_a_stack_that_goes_back_starts_nothing(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.status = "UPDATE_ROLLBACK_IN_PROGRESS"

    (reply,) = ask(cloudformation, monkeypatch, "processing", PREPARED, "Update")

    assert reply["Status"] == "SUCCESS" and aws.started == []


@pytest.mark.parametrize(
    ("status", "manifest", "answered"),
    [
        ("SUCCEEDED", True, "SUCCESS"),
        ("SUCCEEDED", False, "FAILED"),
        ("FAILED", False, "FAILED"),
        ("TIMED_OUT", True, "FAILED"),
    ],
)
def test_cloudformation_hears_of_a_staging_build_when_it_ends(
    aws: Fakes,
    cloudformation: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    manifest: bool,
    answered: str,
) -> None:
    assert ask(cloudformation, monkeypatch, "staging", STAGED) == []
    assert aws.started[0]["idempotencyToken"] == "request-1", "CloudFormation may send a request twice"
    variables = {each["name"]: each["value"] for each in aws.started[0]["environmentVariablesOverride"]}
    assert variables == {"MODEL_ID": STAGED["Id"], "REVISION": REVISION, "DIGEST": DIGEST}
    if manifest:
        put(f"weights/{DIGEST}/manifest.json", b"{}")

    aws.builds["uuid-1"] = status
    index.handler({"detail": {"build-id": "arn:aws:codebuild:us-east-1:1:build/project:uuid-1"}}, None)

    (reply,) = cloudformation[1:]
    assert (reply["Status"], reply["PhysicalResourceId"]) == (answered, DIGEST)
    assert answered == "SUCCESS" or f"google/flan-t5-xxl at {REVISION} is {status}: see the log" in reply["Reason"]
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="jobs/")


def test_a_build_that_ended_before_its_request_was_put_down_is_answered_all_the_same(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends_at_once(**request: Any) -> dict[str, Any]:
        aws.builds["uuid-1"] = "FAILED"
        return {"build": {"id": "project:uuid-1"}}

    monkeypatch.setattr(aws, "start_build", ends_at_once)

    (reply,) = ask(cloudformation, monkeypatch, "staging", STAGED)

    assert reply["Status"] == "FAILED"


def test_an_image_whose_tag_is_there_is_not_built_again(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"Repository": "images", "Tag": "cpu-1234"}
    assert ask(cloudformation, monkeypatch, "image", wanted) == []

    aws.builds["uuid-1"] = "FAILED"
    index.handler({"detail": {"build-id": "project:uuid-1"}}, None)
    assert cloudformation[1]["Reason"] == "the build of image cpu-1234 is FAILED: see the log"

    aws.images.add("cpu-1234")
    assert ask(cloudformation, monkeypatch, "image", wanted)[-1]["Status"] == "SUCCESS"
    assert len(aws.started) == 1


def test_every_kind_of_job_has_what_the_function_asks_of_it() -> None:
    names = ("WHAT", "IDENTITY", "ready", "begin", "name_of", "over", "stop", "fault")

    for kind in (staging, image, processing, training):
        assert [name for name in names if not hasattr(kind, name)] == []
    assert builds.short("arn:aws:codebuild:us-east-1:1:build/project:uuid") == builds.short("project:uuid") == "uuid"


COMPILED = {
    **PREPARED, "MadeFor": "neuron.json", "Files": "manifest.json", "Expected": json.dumps({"instance": "inf2"}),
    "Job": json.dumps({"AlgorithmSpecification": {"TrainingImage": "i"}}),
}  # fmt: skip


def trained(instance: str = "inf2") -> None:
    """What a training job has made, where SageMaker puts it."""
    made = f"jobs/training/{NAME}/output/model/"
    files = [{"path": "compiled/graph.neff", "size": 4, "sha256": hashlib.sha256(b"neff").hexdigest()}]
    put(f"{made}compiled/graph.neff", b"neff")
    put(f"{made}neuron.json", json.dumps({"instance": instance}).encode())
    put(f"{made}manifest.json", json.dumps({"files": files}).encode())


def training_ended(aws: Fakes, status: str = "Completed", **told: str) -> None:
    aws.jobs[NAME] = {"TrainingJobStatus": status, **told}
    index.handler({"detail": {"TrainingJobName": NAME}}, None)


def keys(prefix: str) -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return sorted(item["Key"].removeprefix(prefix) for item in found)


def test_what_a_training_job_has_made_comes_to_the_artifacts_own_prefix_and_is_declared(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(cloudformation, monkeypatch, "training", COMPILED) == []
    assert [each["TrainingJobName"] for each in aws.started] == [NAME]

    trained()
    training_ended(aws)

    assert cloudformation[1]["Status"] == "SUCCESS"
    assert keys(f"artifacts/{KEY}/") == ["compiled/graph.neff", "manifest.json", "neuron.json"]
    assert keys(f"artifacts/{KEY}.") == ["json"]
    training_ended(aws)
    assert len(cloudformation) == 2, "an event that comes twice answers nobody"
    assert ask(cloudformation, monkeypatch, "training", COMPILED, "Update")[-1]["Status"] == "SUCCESS"
    assert len(aws.started) == 1


def test_what_a_training_job_made_for_another_family_is_refused(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(cloudformation, monkeypatch, "training", COMPILED)
    trained("trn2")

    training_ended(aws)

    assert "instance is 'trn2', not 'inf2'" in cloudformation[1]["Reason"]
    assert cloudformation[1]["Reason"].endswith(f"so must what is in s3://{BUCKET}/jobs/training/{NAME}/output/model/")
    assert keys(f"artifacts/{KEY}.json") == []


def test_a_training_job_that_fails_tells_why_and_the_next_request_begins_another(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(cloudformation, monkeypatch, "training", COMPILED)

    training_ended(aws, "Failed", FailureReason="AlgorithmError: 3 heads do not divide")

    assert cloudformation[1]["Reason"] == f"the training job {NAME} is Failed: AlgorithmError: 3 heads do not divide"
    ask(cloudformation, monkeypatch, "training", COMPILED)
    assert aws.started[-1]["TrainingJobName"] == f"{NAME[:-1]}2"


def test_a_training_job_that_outlived_its_deployment_is_found_by_the_next(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.jobs[NAME] = {"TrainingJobStatus": "Completed"}
    trained()

    (reply,) = ask(cloudformation, monkeypatch, "training", COMPILED)

    assert reply["Status"] == "SUCCESS" and aws.started == []


def test_a_training_job_of_a_stack_that_is_deleted_is_stopped(
    aws: Fakes, cloudformation: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(cloudformation, monkeypatch, "training", COMPILED)
    aws.status = "DELETE_IN_PROGRESS"

    ask(cloudformation, monkeypatch, "training", COMPILED, "Delete")

    assert aws.stopped == [NAME]
