"""What `destroy --purge` removes of what a deployment keeps on purpose, and what it leaves to other models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from heavylift.deploy.purge import purge
from tests.cdk import plan

WEIGHTS, REPORTS = "weights-bucket", "reports-bucket"
NOTHING = {"Topic": {"Type": "AWS::SNS::Topic"}}


def stack(cloudformation: Any, name: str, **outputs: str) -> None:
    """One that stands, with these outputs."""
    told = {key: {"Value": value} for key, value in outputs.items()}
    body = json.dumps({"Resources": NOTHING, "Outputs": told} if told else {"Resources": NOTHING})
    cloudformation.create_stack(StackName=name, TemplateBody=body)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """S3 and CloudFormation, with a foundation whose buckets hold what two models have left."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        s3, cloudformation = boto3.client("s3"), boto3.client("cloudformation")
        for bucket in (WEIGHTS, REPORTS):
            s3.create_bucket(Bucket=bucket)
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for key in ("reports/tiny-t5/1.json", "reports/tiny-t5/1.json", "reports/other/1.json"):
            s3.put_object(Bucket=REPORTS, Key=key, Body=b"{}")
        s3.put_object(Bucket=WEIGHTS, Key="weights/a1/model.safetensors", Body=b"w")
        s3.delete_object(Bucket=WEIGHTS, Key="weights/a1/model.safetensors")  # an old version and a marker stay
        named = {"WeightsBucketName": WEIGHTS, "ReportsBucketName": REPORTS, "KeyArn": "arn:key"}
        stack(cloudformation, "heavylift-foundation", **named)
        yield s3, cloudformation
        s3.close()
        cloudformation.close()


def test_the_last_model_takes_everything_along_that_costs_and_names_what_stays(account: tuple[Any, Any]) -> None:
    s3, cloudformation = account

    lines = list(purge(plan()))

    assert s3.list_buckets()["Buckets"] == []
    left = [each["StackName"] for each in cloudformation.describe_stacks()["Stacks"]]
    assert left == []
    assert lines[:3] == [
        "stack heavylift-foundation",
        f"s3://{WEIGHTS} and its 2 objects",
        f"s3://{REPORTS} and its 3 objects",
    ]
    assert lines[3].startswith("arn:key stays: KMS deletes a key only after a waiting period")


def test_another_model_keeps_the_weights_its_reports_and_the_foundation(account: tuple[Any, Any]) -> None:
    s3, cloudformation = account
    stack(cloudformation, "heavylift-other")

    lines = list(purge(plan()))

    assert lines == [
        f"2 objects of s3://{REPORTS}/reports/tiny-t5/",
        "kept the weights and the foundation: heavylift-other may use them",
    ]
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=REPORTS)["Contents"]] == ["reports/other/1.json"]
    assert len(s3.list_object_versions(Bucket=WEIGHTS)["Versions"]) == 1


def test_without_a_foundation_there_is_nothing_to_purge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        assert list(purge(plan())) == ["nothing to purge"]
