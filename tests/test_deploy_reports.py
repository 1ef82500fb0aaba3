"""Finding and fetching the gate's reports, in moto's S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from heavylift.deploy import reports

BUCKET = "reports"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()


def put(s3: Any, run: str, digest: str, name: str = "tiny-t5") -> str:
    prefix = f"reports/{name}/{run}/"
    s3.put_object(Bucket=BUCKET, Key=f"{prefix}samples.jsonl.gz", Body=b"samples")
    s3.put_object(
        Bucket=BUCKET, Key=f"{prefix}report.json", Body=json.dumps({"gate_digest": digest, "run": run}).encode()
    )
    return prefix


def test_the_newest_report_of_this_gate_is_found_and_other_gates_are_not(s3: Any) -> None:
    put(s3, "20261120T000000Z-aaaa", "a")
    newest = put(s3, "20261121T000000Z-aaaa", "a")
    put(s3, "20261122T000000Z-bbbb", "b")
    put(s3, "20261123T000000Z-aaaa", "a", name="tiny-t5-script")

    found = reports.newest(s3, BUCKET, "tiny-t5", gate_digest="a")

    assert found is not None
    assert found.prefix == newest


def test_a_report_that_was_there_before_is_not_this_deployments(s3: Any) -> None:
    put(s3, "20261120T000000Z-aaaa", "a")
    before = frozenset(reports.prefixes(s3, BUCKET, "tiny-t5"))

    assert reports.newest(s3, BUCKET, "tiny-t5", gate_digest="a", than=before) is None


def test_a_run_whose_report_was_never_written_does_not_count(s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="reports/tiny-t5/20261120T000000Z-aaaa/samples.jsonl.gz", Body=b"")

    assert reports.prefixes(s3, BUCKET, "tiny-t5") == []


def test_a_fetched_run_has_both_files_and_nothing_half_written(s3: Any, tmp_path: Path) -> None:
    run = reports.read(s3, BUCKET, put(s3, "20261120T000000Z-aaaa", "a"))

    folder = reports.fetch(s3, BUCKET, run, tmp_path)

    assert folder == tmp_path / "20261120T000000Z-aaaa"
    assert sorted(file.name for file in folder.iterdir()) == ["report.json", "samples.jsonl.gz"]
