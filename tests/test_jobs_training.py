"""The Lambda of the long jobs whose job is a SageMaker training job: what it made is copied, and then declared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest

from heavylift_cdk.lambdas.jobs import index
from tests.jobs import BUCKET, FUNCTION, KEY, NAME, PREPARED, Context, Waiting, keys, put, waiting

COMPILED = {
    **PREPARED, "MadeFor": "neuron.json", "Files": "manifest.json", "Expected": json.dumps({"instance": "inf2"}),
    "Job": json.dumps({"AlgorithmSpecification": {"TrainingImage": "i"}}),
}  # fmt: skip
MADE = f"jobs/training/{NAME}/output/model/"


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    with waiting(monkeypatch) as stack:
        yield stack


def trained(instance: str = "inf2") -> None:
    """What a training job has made, where SageMaker puts it."""
    files = [{"path": "compiled/graph.neff", "size": 4, "sha256": hashlib.sha256(b"neff").hexdigest()}]
    put(f"{MADE}compiled/graph.neff", b"neff")
    put(f"{MADE}neuron.json", json.dumps({"instance": instance}).encode())
    put(f"{MADE}manifest.json", json.dumps({"files": files}).encode())


def test_what_a_training_job_has_made_comes_to_the_artifacts_own_prefix_and_is_declared(stack: Waiting) -> None:
    stack.ask("training", COMPILED)
    assert [each["TrainingJobName"] for each in stack.aws.started] == [NAME]

    trained()
    stack.ends(NAME)

    assert [each["Status"] for each in stack.told] == ["SUCCESS"]
    assert keys(f"artifacts/{KEY}/") == ["compiled/graph.neff", "manifest.json", "neuron.json"]
    assert keys(f"artifacts/{KEY}.") == ["json"]
    stack.ends(NAME)
    assert len(stack.told) == 1, "an event that comes twice tells nobody"
    assert stack.ask("training", COMPILED, "Update", {"Told": "another"})[-1]["Status"] == "SUCCESS"
    assert len(stack.aws.started) == 1


def test_a_copy_that_takes_longer_than_a_lambda_goes_on_in_the_next_where_it_stopped(stack: Waiting) -> None:
    stack.ask("training", COMPILED)
    trained()
    put(f"artifacts/{KEY}/compiled/graph.neff", b"neff")  # the last one came so far
    late = Context(milliseconds=1000 * index.RESERVE_SECONDS - 1)

    stack.ends(NAME, context=late)
    assert (stack.told, keys(f"artifacts/{KEY}.json")) == ([], [])
    (next_,) = stack.aws.invoked
    assert (next_["FunctionName"], next_["InvocationType"]) == (FUNCTION, "Event")
    put(f"{MADE}compiled/graph.neff", b"NEFF")  # would be seen, if it were copied again
    index.handler(json.loads(next_["Payload"]), Context())

    assert [each["Status"] for each in stack.told] == ["SUCCESS"]
    assert keys(f"artifacts/{KEY}/") == ["compiled/graph.neff", "manifest.json", "neuron.json"]
    there = index.boto3.client("s3").get_object(Bucket=BUCKET, Key=f"artifacts/{KEY}/compiled/graph.neff")
    assert there["Body"].read() == b"neff"


def test_what_a_training_job_made_for_another_family_is_refused(stack: Waiting) -> None:
    stack.ask("training", COMPILED)
    trained("trn2")

    stack.ends(NAME)

    assert "instance is 'trn2', not 'inf2'" in stack.told[0]["Reason"]
    assert stack.told[0]["Reason"].endswith(f"so must what is in s3://{BUCKET}/{MADE}")
    assert keys(f"artifacts/{KEY}.json") == []


def test_a_training_job_that_fails_tells_why_and_the_next_request_begins_another(stack: Waiting) -> None:
    stack.ask("training", COMPILED)

    stack.ends(NAME, "Failed", FailureReason="AlgorithmError: 3 heads do not divide")

    assert stack.told[0]["Reason"] == f"the training job {NAME} is Failed: AlgorithmError: 3 heads do not divide"
    stack.ask("training", COMPILED)
    assert stack.aws.started[-1]["TrainingJobName"] == f"{NAME[:-1]}2"


def test_a_training_job_that_outlived_its_deployment_is_found_by_the_next(stack: Waiting) -> None:
    stack.aws.jobs[NAME] = {"TrainingJobStatus": "Completed"}
    trained()

    stack.ask("training", COMPILED)

    assert [each["Status"] for each in stack.told] == ["SUCCESS"] and stack.aws.started == []


def test_a_training_job_of_a_stack_that_is_deleted_is_stopped(stack: Waiting) -> None:
    stack.ask("training", COMPILED)
    stack.aws.status = "DELETE_IN_PROGRESS"

    stack.ask("training", COMPILED, "Delete")

    assert stack.aws.stopped == [NAME]
