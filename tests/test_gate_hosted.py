"""The gate on an asynchronous endpoint and on an inference component, really deployed: PASS, and FAIL, rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heavylift.benchmark.asynchronous import AsynchronousClient
from heavylift.benchmark.sender import results_of
from tests.embedded import Deployed, Embedded, start_embedded
from tests.hosted import Hosted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
QUESTION = json.dumps({"inputs": ["write as a Roman numeral: 1994"], "parameters": {"max_new_tokens": 32}})


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    with start_embedded(tmp_path_factory.mktemp("embedded")) as running:
        yield running


def asked_through_s3(hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What an asynchronous endpoint answers the benchmark's own client."""
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", hosted.aws.running.url)
    client = AsynchronousClient(hosted.name, results=results_of(hosted.name), concurrency=1)
    outputs: list[str] = json.loads(client.invoke(QUESTION.encode()))["outputs"]
    return outputs


def asked_by_name(hosted: Hosted, component: str) -> list[str]:
    reply = hosted.aws.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=hosted.name, InferenceComponentName=component, ContentType="application/json", Body=QUESTION
    )
    outputs: list[str] = json.load(reply["Body"])["outputs"]
    return outputs


def why(deployed: Deployed) -> str:
    """Every reason that the events give."""
    return "; ".join(event["ResourceStatusReason"] for event in deployed.events if event.get("ResourceStatusReason"))


def judged(report: dict[str, Any]) -> tuple[Any, ...]:
    return report["verdict"], report["requests"]["measured"], report["table"]["data_quality"]


def test_an_asynchronous_endpoint_that_meets_its_targets_stays_and_one_that_misses_them_goes_back(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = Hosted(embedded, tmp_path, "queued-t5", "async_inference: {max_concurrent_invocations_per_instance: 2}\n")

    created = hosted.up(delay=11)
    assert created.status == "CREATE_COMPLETE", why(created)
    (passed,) = hosted.reports()
    assert judged(passed) == ("PASS", 40, "normal (100 %)")
    assert "reply read from S3 - intended send" in passed["formulas"]["e2e_latency"]
    assert "reply read from S3" in passed["judgements"][0]["formula"]
    before = embedded.client("sagemaker").describe_endpoint(EndpointName="queued-t5")
    assert before["AsyncInferenceConfig"]["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 2}

    missed = hosted.up(delay=12, max_ms=0.1)

    assert missed.status == "UPDATE_ROLLBACK_COMPLETE", why(missed)
    assert "queued-t5 missed its targets (FAIL)" in why(missed)
    assert [report["verdict"] for report in hosted.reports()] == ["PASS", "FAIL"]
    after = embedded.client("sagemaker").describe_endpoint(EndpointName="queued-t5")
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", before["EndpointConfigName"])
    assert asked_through_s3(hosted, monkeypatch) == ["MCMXCIV"], "the old model serves"
    assert hosted.down().status == "DELETE_COMPLETE"


def test_a_component_that_meets_its_targets_stays_and_one_that_misses_them_goes_back(
    embedded: Embedded, tmp_path: Path
) -> None:
    hosted = Hosted(embedded, tmp_path, "shared-t5", "inference_components: [{name: roman}]\n")
    component = {"InferenceComponentName": "roman"}
    sagemaker = embedded.client("sagemaker")

    created = hosted.up(delay=11)
    assert created.status == "CREATE_COMPLETE", why(created)
    (passed,) = hosted.reports()
    assert judged(passed) == ("PASS", 40, "normal (100 %)")
    assert passed["attribution"]["sagemaker"]["invocations"] >= 40, "CloudWatch knows the component by its own name"
    before = sagemaker.describe_inference_component(**component)["Specification"]["ModelName"]

    missed = hosted.up(delay=12, max_ms=0.1)

    assert missed.status == "UPDATE_ROLLBACK_COMPLETE", why(missed)
    assert "shared-t5 missed its targets (FAIL)" in why(missed)
    assert [report["verdict"] for report in hosted.reports()] == ["PASS", "FAIL"]
    after = sagemaker.describe_inference_component(**component)
    assert (after["InferenceComponentStatus"], after["Specification"]["ModelName"]) == ("InService", before)
    assert asked_by_name(hosted, "roman") == ["MCMXCIV"]
    assert hosted.down().status == "DELETE_COMPLETE"
    assert sagemaker.list_inference_components()["InferenceComponents"] == []


def test_an_update_of_an_asynchronous_endpoint_is_refused_on_a_staging_endpoint_before_anybody_meets_it(
    embedded: Embedded, tmp_path: Path
) -> None:
    hosted = Hosted(embedded, tmp_path, "staged-t5", "async_inference: {}\ngate: {strategy: staging}\n")
    sagemaker = embedded.client("sagemaker")

    created = hosted.up(delay=11)
    assert created.status == "CREATE_COMPLETE", why(created)
    before = sagemaker.describe_endpoint(EndpointName="staged-t5")["EndpointConfigName"]

    missed = hosted.up(delay=12, max_ms=0.1)

    assert missed.status == "UPDATE_ROLLBACK_COMPLETE", why(missed)
    touched = [row for row in missed.events if row["ResourceType"] == "AWS::SageMaker::Endpoint"]
    assert touched == [] != [row for row in created.events if row["ResourceType"] == "AWS::SageMaker::Endpoint"]
    assert [(each["endpoint"], each["verdict"]) for each in hosted.reports()] == [
        ("staged-t5", "PASS"),
        ("staged-t5-staging", "FAIL"),
    ]
    left = sagemaker.list_endpoints(NameContains="staged-t5", StatusEquals="InService")["Endpoints"]
    assert [row["EndpointName"] for row in left] == ["staged-t5"]
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="staged-t5-staging", WaiterConfig={"Delay": 1})
    assert sagemaker.describe_endpoint(EndpointName="staged-t5")["EndpointConfigName"] == before
    assert hosted.down().status == "DELETE_COMPLETE"


def test_a_load_of_several_generators_is_made_by_the_deployed_state_machine(embedded: Embedded, tmp_path: Path) -> None:
    how = "gate: {on_fail: warn}\n"  # a generator that gets no processor is late, and makes the run void
    hosted = Hosted(embedded, tmp_path, "wide-t5", how, load="{mode: open, rate: 2.0, generators: 2}")

    created = hosted.up()

    assert created.status == "CREATE_COMPLETE", why(created)
    (report,) = hosted.reports()
    busy = ("the generator lagged", "the time limit", "never became steady")  # what a busy machine does to a run
    assert report["verdict"] == ("VOID" if report["void"] else "PASS"), report["judgements"]
    assert all(any(known in reason for known in busy) for reason in report["void"]), report["void"]
    assert report["table"]["data_quality"] == "normal (100 %)"
    keys = embedded.client("s3").list_objects_v2(Bucket=hosted.output("ReportsBucketName"), Prefix="reports/wide-t5/")
    shards = [row["Key"].rsplit("/", 1)[-1] for row in keys["Contents"] if "/shards/" in row["Key"]]
    assert shards == ["000.jsonl.gz", "001.jsonl.gz"]
    assert hosted.down().status == "DELETE_COMPLETE"
