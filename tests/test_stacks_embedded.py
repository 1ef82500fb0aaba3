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
from tests.cdk import Synthesized, plan, synthesize
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
