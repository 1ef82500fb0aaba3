"""The Lambda of the long jobs whose job is a CodeBuild build: weights from the hub, and images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.jobs import DIGEST, REVISION, Waiting, keys, put, waiting

STAGED = {"Id": "google/flan-t5-xxl", "Revision": REVISION, "Digest": DIGEST}


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    with waiting(monkeypatch) as stack:
        yield stack


@pytest.mark.parametrize(
    ("status", "manifest", "told"),
    [
        ("SUCCEEDED", True, "SUCCESS"),
        ("SUCCEEDED", False, "FAILURE"),
        ("FAILED", False, "FAILURE"),
        ("TIMED_OUT", True, "FAILURE"),
    ],
)
def test_cloudformation_hears_of_a_staging_build_when_it_ends(
    stack: Waiting, status: str, manifest: bool, told: str
) -> None:
    (begun,) = stack.ask("staging", STAGED)
    assert (begun["Status"], begun["PhysicalResourceId"], stack.told) == ("SUCCESS", DIGEST, [])
    assert stack.aws.started[0]["idempotencyToken"] == "request-1", "CloudFormation may send a request twice"
    variables = {each["name"]: each["value"] for each in stack.aws.started[0]["environmentVariablesOverride"]}
    assert variables == {"MODEL_ID": STAGED["Id"], "REVISION": REVISION, "DIGEST": DIGEST}
    if manifest:
        put(f"weights/{DIGEST}/manifest.json", b"{}")

    stack.built(status)

    (said,) = stack.told
    assert said["Status"] == told
    assert told == "SUCCESS" or f"google/flan-t5-xxl at {REVISION} is {status}: see the log" in said["Reason"]
    assert keys("jobs/") == []


def test_a_build_that_ended_before_its_request_was_put_down_is_told_all_the_same(stack: Waiting) -> None:
    def ends_at_once(**request: Any) -> dict[str, Any]:
        stack.aws.builds["uuid-1"] = "FAILED"
        return {"build": {"id": "project:uuid-1"}}

    stack.monkeypatch.setattr(stack.aws, "start_build", ends_at_once)

    stack.ask("staging", STAGED)

    assert [each["Status"] for each in stack.told] == ["FAILURE"]


def test_an_image_whose_tag_is_there_is_not_built_again(stack: Waiting) -> None:
    wanted = {"Repository": "images", "Tag": "cpu-1234"}
    stack.ask("image", wanted)

    stack.built("FAILED")
    assert stack.told[0]["Reason"] == "the build of image cpu-1234 is FAILED: see the log"

    stack.aws.images.add("cpu-1234")
    assert stack.ask("image", wanted)[-1]["Status"] == "SUCCESS"
    assert len(stack.aws.started) == 1 and stack.told[-1]["Status"] == "SUCCESS"
