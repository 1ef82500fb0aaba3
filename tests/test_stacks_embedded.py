"""The stacks on the embedded AWS, by boto3: what CloudFormation really makes of them.

Not IAM: nothing enforces it there. Not the CDK CLI, the runtime and the gate: the end-to-end test runs those.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from heavylift.plan.plan import Plan
from heavylift_cdk import RuntimeImage
from tests.cdk import IMAGE, Synthesized, plan, synthesize
from tests.embedded import Deployed, Embedded, start_embedded

pytestmark = pytest.mark.slow

FOUNDATION, SERVING = "heavylift-foundation", "heavylift-tiny-t5"
PLAN = plan(benchmark=None, gate_digest=None)
SERVER = Path(__file__).parent / "local_model_server.py"


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    return synthesize(tmp_path_factory.mktemp("assembly"), PLAN)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    command = ("{python}", str(SERVER), "{model_dir}", "{port}")
    with start_embedded(tmp_path_factory.mktemp("embedded"), command) as running:
        yield running


@pytest.fixture(scope="module")
def foundation(embedded: Embedded, synthesized: Synthesized) -> Deployed:
    return embedded.deploy(FOUNDATION, synthesized.json(FOUNDATION), synthesized.folder)


def test_the_foundation_deploys(embedded: Embedded, foundation: Deployed) -> None:
    assert foundation.status == "CREATE_COMPLETE", foundation.events

    s3 = embedded.client("s3")
    for name in ("WeightsBucketName", "ReportsBucketName"):
        reply = s3.get_bucket_encryption(Bucket=foundation.outputs[name])
        (rule,) = reply["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == foundation.outputs["KeyArn"]


def test_a_model_without_weights_fails_at_once_with_the_command_to_run(
    embedded: Embedded, foundation: Deployed, synthesized: Synthesized
) -> None:
    deployed = embedded.deploy(SERVING, synthesized.json(SERVING), synthesized.folder)

    bucket = foundation.outputs["WeightsBucketName"]
    reasons = " ".join(event.get("ResourceStatusReason", "") for event in deployed.events)
    assert deployed.status == "ROLLBACK_COMPLETE"
    assert f"the weights of tiny-t5 are not in s3://{bucket}/weights/{'a1' * 32}/: run" in reasons
    assert "'heavylift weights push models/tiny-t5.yaml'" in reasons
    assert not [event for event in deployed.events if event["ResourceType"].startswith("AWS::SageMaker")]
    embedded.destroy(SERVING)


def test_a_model_serves_is_updated_in_place_and_leaves_the_foundation(
    embedded: Embedded, foundation: Deployed, synthesized: Synthesized, tmp_path: Path
) -> None:
    bucket = foundation.outputs["WeightsBucketName"]
    put(embedded, bucket, PLAN)

    created = embedded.deploy(SERVING, synthesized.json(SERVING), synthesized.folder)

    assert created.status == "CREATE_COMPLETE", created.events
    seen = invoke(embedded)
    assert seen["files"] == {"manifest.json": "{}", "serving.properties": "engine=native"}
    assert seen["environ"]["LOG_LEVEL"] == "info"
    assert seen["environ"]["OPTION_MODEL_ID"] == f"s3://{bucket}/{PLAN.weights_prefix}"

    # Another config, with the same weights: Model and EndpointConfig are replaced, the endpoint is not.
    changed = replace(PLAN, config_digest="d4" * 32, environment={"LOG_LEVEL": "debug"})
    put(embedded, bucket, changed)
    other = synthesize(tmp_path, changed)
    updated = embedded.deploy(SERVING, other.json(SERVING), other.folder)

    assert updated.status == "UPDATE_COMPLETE", updated.events
    assert updated.outputs["EndpointName"] == created.outputs["EndpointName"] == "tiny-t5"
    assert updated.outputs["EndpointConfigName"] != created.outputs["EndpointConfigName"]
    assert invoke(embedded)["environ"]["LOG_LEVEL"] == "debug"

    # What a serving stack imports, CloudFormation does not let go.
    with pytest.raises(ClientError, match=SERVING):
        embedded.destroy(FOUNDATION)
    assert embedded.destroy(SERVING).status == "DELETE_COMPLETE"
    assert embedded.destroy(FOUNDATION).status == "DELETE_COMPLETE"
    assert bucket in [each["Name"] for each in embedded.client("s3").list_buckets()["Buckets"]]


def test_an_update_replaces_what_it_must_and_a_refused_one_ends_with_the_old_endpoint_serving(
    embedded: Embedded, tmp_path: Path
) -> None:
    steps = iter(range(99))

    first = synthesize(tmp_path / "first", PLAN)
    bucket = embedded.deploy(FOUNDATION, first.json(FOUNDATION), first.folder).outputs["WeightsBucketName"]

    def deploy(model: Plan, image: RuntimeImage = IMAGE) -> Deployed:
        made = synthesize(tmp_path / str(next(steps)), model, image=image)
        put(embedded, bucket, model)
        return embedded.deploy(SERVING, made.json(SERVING), made.folder)

    def ids() -> dict[str, str]:
        """Physical ids by type, of what serves."""
        rows = embedded.client("cloudformation").describe_stack_resources(StackName=SERVING)["StackResources"]
        found = {row["ResourceType"]: row["PhysicalResourceId"] for row in rows}
        return {kind: found[f"AWS::SageMaker::{kind}"] for kind in ("Model", "EndpointConfig", "Endpoint")}

    def replaced(model: Plan, image: RuntimeImage = IMAGE) -> set[str]:
        before = ids()
        assert deploy(model, image).status == "UPDATE_COMPLETE"
        assert invoke(embedded)["environ"]["LOG_LEVEL"] == model.environment["LOG_LEVEL"]
        return {kind for kind, id in ids().items() if id != before[kind]}

    assert deploy(PLAN).status == "CREATE_COMPLETE"
    larger = replace(PLAN, instance=replace(PLAN.instance, type="ml.c6i.2xlarge"))
    weights = replace(larger, weights_digest="e5" * 32)
    other = RuntimeImage.from_uri("123456789012.dkr.ecr.eu-west-1.amazonaws.com/heavylift/runtime:v2")

    assert replaced(larger) == {"EndpointConfig"}, "another instance type runs the same Model"
    assert replaced(weights) == {"Model", "EndpointConfig"}
    assert replaced(weights, other) == {"Model", "EndpointConfig"}
    assert replaced(replace(weights, tags={"team": "other"}), other) == set(), "tags change in place"

    serving = ids()
    pid = invoke(embedded)["pid"]
    unhealthy = replace(weights, environment={"LOG_LEVEL": "info", "EXIT_AT_START": "1"})
    rejected = replace(weights, instance=replace(PLAN.instance, type="ml.nope.xlarge"))
    for refused, why in ((unhealthy, "exited with code 3"), (rejected, "ml.nope.xlarge")):
        failed = deploy(refused, other)

        assert failed.status == "UPDATE_ROLLBACK_COMPLETE", failed.events
        assert any(why in event.get("ResourceStatusReason", "") for event in failed.events)
        assert (ids(), invoke(embedded)["pid"]) == (serving, pid)
    assert embedded.destroy(SERVING).status == "DELETE_COMPLETE"
    embedded.destroy(FOUNDATION)


def put(embedded: Embedded, bucket: str, model: Plan) -> None:
    """A prefix of weights and one of options, complete."""
    bodies = {
        f"{model.weights_prefix}manifest.json": b"{}",
        f"{model.config_prefix}serving.properties": b"engine=native",
        f"{model.config_prefix}manifest.json": b"{}",
    }
    for key, body in bodies.items():
        embedded.client("s3").put_object(Bucket=bucket, Key=key, Body=body)


def invoke(embedded: Embedded) -> dict[str, Any]:
    """What the endpoint's process says of itself."""
    reply = embedded.client("sagemaker-runtime").invoke_endpoint(EndpointName="tiny-t5", Body=b"{}")
    answer: dict[str, Any] = json.load(reply["Body"])
    return answer
