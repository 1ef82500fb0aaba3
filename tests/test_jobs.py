"""The Lambda of the long jobs: when it begins one, what it tells CloudFormation, and when. Its kinds that build:
test_jobs_builds.py; that train: test_jobs_training.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from heavylift_cdk.lambdas.jobs import builds, image, lost, processing, request, sagemaker_job, staging, training
from tests.jobs import BUCKET, DIGEST, EXPECTED, KEY, NAME, PREPARED, STACK, Waiting, artifact, put, waiting


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    with waiting(monkeypatch) as stack:
        yield stack


def test_an_artifact_is_made_declared_and_found_the_next_time(stack: Waiting) -> None:
    (begun,) = stack.ask("processing", PREPARED)
    assert (begun["Status"], begun["PhysicalResourceId"]) == ("SUCCESS", KEY)
    assert [each["ProcessingJobName"] for each in stack.aws.started] == [NAME]
    assert stack.told == [], "the wait condition waits, as long as the job takes"

    artifact()
    stack.ends(NAME)

    assert stack.told == [{"Status": "SUCCESS", "Reason": "made", "UniqueId": KEY, "Data": KEY}]
    said = json.loads(boto3.client("s3").get_object(Bucket=BUCKET, Key=f"artifacts/{KEY}.json")["Body"].read())
    assert (said["key"], said["made_for"]) == (KEY, EXPECTED)
    stack.ends(NAME)
    assert len(stack.told) == 1, "an event that comes twice tells nobody"

    (_, again) = stack.ask("processing", PREPARED, "Update", {"Told": "another"})
    assert again["Status"] == "SUCCESS" and len(stack.aws.started) == 1
    assert [each["Status"] for each in stack.told] == ["SUCCESS"] * 2, "a new wait condition is told at once"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tensor_parallel_degree": 4}, "tensor_parallel_degree is 4, not 2"),
        ({"source_digest": "ff" * 32}, f"source_digest is '{'ff' * 32}', not '{DIGEST}'"),
        ({"files": [{"path": "gone", "size": 9, "sha256": ""}]}, "gone has None bytes, not 9"),
    ],
)
def test_what_was_made_for_something_else_is_refused(stack: Waiting, changes: dict[str, Any], sentence: str) -> None:
    stack.ask("processing", PREPARED)
    artifact(**changes)

    stack.ends(NAME)

    assert stack.told[0]["Status"] == "FAILURE"
    assert sentence in stack.told[0]["Reason"]


def test_an_artifact_declared_for_another_key_is_refused_before_anything_runs(stack: Waiting) -> None:
    put(f"artifacts/{KEY}.json", json.dumps({"key": KEY, "made_for": {"tensor_parallel_degree": 8}}).encode())

    (reply,) = stack.ask("processing", PREPARED)

    assert reply["Status"] == "FAILED" and "holds an artifact made for {'tensor_parallel_degree': 8}" in reply["Reason"]
    assert stack.aws.started == []


def test_a_job_that_fails_says_what_its_container_said_and_the_next_request_starts_another(stack: Waiting) -> None:
    stack.ask("processing", PREPARED)

    stack.ends(NAME, "Failed", ExitMessage="3 heads do not divide", FailureReason="AlgorithmError: exit code 2")

    assert stack.told[0]["Status"] == "FAILURE"
    assert stack.told[0]["Reason"] == (
        f"the processing job {NAME} is Failed: 3 heads do not divide; AlgorithmError: exit code 2"
    )
    stack.ask("processing", PREPARED)
    assert [each["ProcessingJobName"] for each in stack.aws.started] == [NAME, f"{NAME[:-1]}2"]


def test_a_job_that_went_on_after_cloudformation_stopped_waiting_is_joined_or_found(stack: Waiting) -> None:
    stack.aws.jobs[NAME] = {"ProcessingJobStatus": "InProgress"}
    stack.ask("processing", PREPARED)
    assert (stack.aws.started, stack.told) == ([], []), "it runs already"

    boto3.client("s3").delete_object(Bucket=BUCKET, Key=request.key(STACK, NAME))
    artifact()
    stack.aws.jobs[NAME] = {"ProcessingJobStatus": "Completed"}
    stack.ask("processing", PREPARED)

    assert [each["Status"] for each in stack.told] == ["SUCCESS"] and stack.aws.started == []


def test_the_end_of_a_job_whose_stack_went_back_meanwhile_is_no_fault(stack: Waiting) -> None:
    stack.ask("processing", PREPARED)
    artifact()
    stack.gone = True

    stack.ends(NAME)

    assert len(stack.told) == 1, "nobody listened"
    stack.ends(NAME)
    assert len(stack.told) == 1, "and nobody is told again"


def test_what_was_deleted_after_its_wait_condition_had_been_told_is_waited_for_in_the_request(stack: Waiting) -> None:
    assert stack.ask("processing", PREPARED, "Update", {"Told": f"{stack.url}/told"}) == []
    artifact()

    stack.ends(NAME)

    (reply,) = stack.answers
    assert (reply["Status"], stack.told) == ("SUCCESS", []), "a wait condition waits once"


def test_a_new_role_that_sagemaker_has_not_heard_of_is_tried_again(stack: Waiting) -> None:
    pauses: list[float] = []
    own = SimpleNamespace(sleep=pauses.append)  # time's is all threads'
    stack.monkeypatch.setattr(sagemaker_job, "time", own)
    stack.aws.refusals = ["Could not assume role arn:aws:iam::1:role/x"] * 2

    stack.ask("processing", PREPARED)

    assert len(pauses) == 2 and len(stack.aws.started) == 1


def test_a_job_that_cannot_be_started_fails_its_resource_at_once(stack: Waiting) -> None:
    stack.aws.refusals = ["ResourceLimitExceeded: the account-level service limit is 0"]

    (reply,) = stack.ask("processing", PREPARED)

    assert reply["Status"] == "FAILED" and "cannot start the processing job" in reply["Reason"]


@pytest.mark.parametrize(("status", "stops"), [("DELETE_IN_PROGRESS", True), ("ROLLBACK_IN_PROGRESS", False)])
def test_a_stack_that_is_deleted_stops_its_job_and_one_that_rolls_back_lets_it_finish(
    stack: Waiting, status: str, stops: bool
) -> None:
    stack.ask("processing", PREPARED)
    stack.aws.status = status

    reply = stack.ask("processing", PREPARED, "Delete")[-1]

    assert reply["Status"] == "SUCCESS"
    assert stack.aws.stopped == ([NAME] if stops else [])


@pytest.mark.parametrize(("status", "answer"), [("Completed", "SUCCESS"), ("InProgress", "FAILED")])
def test_a_job_that_ends_as_it_is_stopped_does_not_hold_up_its_stack(stack: Waiting, status: str, answer: str) -> None:
    stack.ask("processing", PREPARED)
    stack.aws.status = "DELETE_IN_PROGRESS"

    def refuse(ProcessingJobName: str) -> None:
        stack.aws.jobs[ProcessingJobName] = {"ProcessingJobStatus": status}
        raise RuntimeError("the job cannot be stopped")

    stack.monkeypatch.setattr(stack.aws, "stop_processing_job", refuse)
    reply = stack.ask("processing", PREPARED, "Delete")[-1]

    assert reply["Status"] == answer
    assert reply["Reason"] == (
        "" if answer == "SUCCESS" else "cannot stop the processing job: the job cannot be stopped"
    )


def test_a_stack_that_goes_back_starts_nothing(stack: Waiting) -> None:
    stack.aws.status = "UPDATE_ROLLBACK_IN_PROGRESS"

    (reply,) = stack.ask("processing", PREPARED, "Update", {"Told": "another"})

    assert reply["Status"] == "SUCCESS" and stack.aws.started == []


def record(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What Lambda hands to a function's destination on failure."""
    return {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
        "requestPayload": event,
        "responseContext": {"statusCode": 200, "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "2026 Task timed out after 120.00 seconds"},
        **changes,
    }


@pytest.mark.parametrize(
    ("event", "changes", "word"),
    [
        ({"detail": {"ProcessingJobName": NAME}}, {}, "3 tries (RetriesExhausted): 2026 Task timed out after 120.00"),
        ({"ended": NAME}, {"responsePayload": None}, "it left no word"),
        ({"ended": NAME}, {"requestContext": {"condition": "EventAgeExceeded"}}, "(EventAgeExceeded)"),
    ],
)
def test_a_stack_whose_function_died_of_a_jobs_end_is_told_so_and_waits_no_longer(
    stack: Waiting, event: dict[str, Any], changes: dict[str, Any], word: str
) -> None:
    stack.ask("processing", PREPARED)

    lost.handler(record(event, **changes), None)

    (told,) = stack.told
    assert (told["Status"], told["UniqueId"]) == ("FAILURE", KEY)
    assert word in told["Reason"] and "see its log" in told["Reason"]
    lost.handler(record(event, **changes), None)
    lost.handler(record({"ended": "heavylift-another-1"}), None)
    assert len(stack.told) == 1, "once, and of no job that others wait for"


def test_an_update_that_waits_in_its_request_is_answered_where_its_function_died(stack: Waiting) -> None:
    stack.ask("processing", PREPARED, "Update", {"Told": f"{stack.url}/told"})

    lost.handler(record({"ended": NAME}), None)

    (reply,) = stack.answers
    assert (reply["Status"], reply["PhysicalResourceId"], stack.told) == ("FAILED", KEY, [])


@pytest.mark.parametrize(
    ("status", "answer"), [("CREATE_IN_PROGRESS", "FAILED"), ("UPDATE_ROLLBACK_IN_PROGRESS", "SUCCESS")]
)
def test_a_request_of_which_the_function_died_is_answered_and_never_holds_up_what_goes_back(
    stack: Waiting, status: str, answer: str
) -> None:
    stack.monkeypatch.setenv("KIND", "processing")
    stack.aws.status = status
    request = {
        "RequestType": "Update", "ResponseURL": f"{stack.url}/answer", "StackId": STACK, "RequestId": "request-1",
        "LogicalResourceId": "Made", "ResourceProperties": {**PREPARED, "Told": f"{stack.url}/told"},
    }  # fmt: skip

    lost.handler(record(request), None)

    assert [each["Status"] for each in stack.answers] == [answer]


def test_every_kind_of_job_has_what_the_function_asks_of_it() -> None:
    names = ("WHAT", "IDENTITY", "ready", "begin", "name_of", "over", "stop", "fault")

    for kind in (staging, image, processing, training):
        assert [name for name in names if not hasattr(kind, name)] == []
    assert builds.short("arn:aws:codebuild:us-east-1:1:build/project:uuid") == builds.short("project:uuid") == "uuid"
