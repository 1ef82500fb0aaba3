"""The gate on an asynchronous endpoint and on an inference component, really deployed: PASS, and FAIL, rolled back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.embedded import Embedded, start_embedded
from tests.hosted import Hosted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
QUESTION = json.dumps({"inputs": ["write as a Roman numeral: 1994"], "parameters": {"max_new_tokens": 32}})


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with start_embedded(tmp_path_factory.mktemp("embedded")) as running:
        yield running


def asked_through_s3(hosted: Hosted) -> list[str]:
    """What an asynchronous endpoint answers."""
    taken = hosted.aws.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName=hosted.name, ContentType="application/json", Body=QUESTION.encode()
    )
    bucket, _, key = taken["OutputLocation"].removeprefix("s3://").partition("/")
    s3, deadline = hosted.aws.client("s3"), time.monotonic() + 60
    while not s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents"):
        assert time.monotonic() < deadline, taken
        time.sleep(0.05)
    outputs: list[str] = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())["outputs"]
    return outputs


def asked_by_name(hosted: Hosted, component: str) -> list[str]:
    reply = hosted.aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=hosted.name, InferenceComponentName=component, ContentType="application/json", Body=QUESTION
    )
    outputs: list[str] = json.load(reply["Body"])["outputs"]
    return outputs


def judged(report: dict[str, Any]) -> tuple[Any, ...]:
    return report["verdict"], report["requests"]["measured"], report["table"]["data_quality"]


def test_an_asynchronous_endpoint_that_meets_its_targets_stays_and_one_that_misses_them_goes_back(
    embedded: Embedded, tmp_path: Path
) -> None:
    hosted = Hosted(embedded, tmp_path, "queued-t5", "async_inference: {max_concurrent_invocations_per_instance: 2}\n")

    created = hosted.up(delay=11)
    assert created.status == "CREATE_COMPLETE", created.events
    (passed,) = hosted.reports()
    assert judged(passed) == ("PASS", 40, "normal (100 %)")
    assert "reply read from S3 - intended send" in passed["formulas"]["e2e_latency"]
    assert "reply read from S3" in passed["judgements"][0]["formula"]
    before = embedded.client("sagemaker").describe_endpoint(EndpointName="queued-t5")
    assert before["AsyncInferenceConfig"]["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 2}

    missed = hosted.up(delay=12, max_ms=0.1)

    assert missed.status == "UPDATE_ROLLBACK_COMPLETE", missed.events
    reasons = "; ".join(event.get("ResourceStatusReason", "") for event in missed.events)
    assert "queued-t5 missed its targets (FAIL)" in reasons
    assert [report["verdict"] for report in hosted.reports()] == ["PASS", "FAIL"]
    after = embedded.client("sagemaker").describe_endpoint(EndpointName="queued-t5")
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", before["EndpointConfigName"])
    assert asked_through_s3(hosted) == ["MCMXCIV"], "the old model serves"
    assert hosted.down().status == "DELETE_COMPLETE"


def test_a_component_that_meets_its_targets_stays_and_one_that_misses_them_goes_back(
    embedded: Embedded, tmp_path: Path
) -> None:
    how = "inference_components:\n  - {name: roman}\n  - {name: idle}\n"
    hosted = Hosted(embedded, tmp_path, "shared-t5", how, "roman")
    component = {"InferenceComponentName": "roman"}
    sagemaker = embedded.client("sagemaker")

    created = hosted.up(delay=11)
    assert created.status == "CREATE_COMPLETE", created.events
    (passed,) = hosted.reports()
    assert judged(passed) == ("PASS", 40, "normal (100 %)")
    assert passed["attribution"]["sagemaker"]["invocations"] >= 40, "CloudWatch knows the component by its own name"
    before = sagemaker.describe_inference_component(**component)["Specification"]["ModelName"]

    missed = hosted.up(delay=12, max_ms=0.1)

    assert missed.status == "UPDATE_ROLLBACK_COMPLETE", missed.events
    reasons = "; ".join(event.get("ResourceStatusReason", "") for event in missed.events)
    assert "shared-t5 missed its targets (FAIL)" in reasons
    assert [report["verdict"] for report in hosted.reports()] == ["PASS", "FAIL"]
    after = sagemaker.describe_inference_component(**component)
    assert (after["InferenceComponentStatus"], after["Specification"]["ModelName"]) == ("InService", before)
    assert asked_by_name(hosted, "roman") == asked_by_name(hosted, "idle") == ["MCMXCIV"]
    assert hosted.down().status == "DELETE_COMPLETE"
    assert sagemaker.list_inference_components()["InferenceComponents"] == []
