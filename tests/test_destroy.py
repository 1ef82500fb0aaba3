"""A stack compared, written and removed through the real CLI against the embedded AWS. Purging: test_purge.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.checkout import Checkout

pytestmark = pytest.mark.slow

FILE = "models/tiny-t5.yaml"
NOTHING = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}


def names(cloudformation: Any) -> set[str]:
    return {stack["StackName"] for stack in cloudformation.describe_stacks()["Stacks"]}


def test_a_stack_is_compared_and_destroyed_and_its_weights_and_reports_stay_until_they_are_purged(
    checkout: Checkout,
) -> None:
    up = checkout.run("up", FILE, "--local", "--port", str(checkout.port))
    assert up.returncode == 0, up.stdout + up.stderr
    cloudformation, s3 = checkout.client("cloudformation"), checkout.client("s3")

    same = checkout.run("diff", FILE, "--local")
    file = checkout.root / FILE
    file.write_text(file.read_text().replace("max_ms: 2000", "max_ms: 2500", 1))
    other = checkout.run("diff", FILE, "--local")

    assert same.returncode == 0 and "no differences" in same.stdout.lower(), same.stdout + same.stderr
    assert "Hold on" not in same.stdout and "success: " not in same.stdout, "the stacks, and nothing else"
    assert other.returncode == 0 and "Custom::" in other.stdout and "2500" in other.stdout, other.stdout + other.stderr

    cloudformation.create_stack(StackName="heavylift-tiny-t5-benchmark", TemplateBody=json.dumps(NOTHING))
    destroyed = checkout.run("destroy", FILE, "--local")

    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    assert names(cloudformation) & {"heavylift-tiny-t5", "heavylift-tiny-t5-benchmark"} == set()
    assert checkout.client("sagemaker").list_endpoints()["Endpoints"] == []
    kept = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    held = [key["Key"] for name in kept for key in s3.list_objects_v2(Bucket=name).get("Contents", [])]
    assert any(key.endswith("model.safetensors") for key in held) and any("report.json" in key for key in held), held

    purged = checkout.run("destroy", FILE, "--local", "--purge")

    assert purged.returncode == 0, purged.stdout + purged.stderr
    assert "there is no stack heavylift-tiny-t5\n" in purged.stderr, "it was destroyed before"
    assert "heavylift-foundation" not in names(cloudformation)
    assert not {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} & {
        name for name in kept if "weights" in name
    }


def test_templates_are_written_where_they_are_asked_for(checkout: Checkout) -> None:
    written = checkout.run("synth", FILE, "--output", "templates")

    assert written.returncode == 0, written.stdout + written.stderr
    template = json.loads((checkout.root / "templates" / "heavylift-tiny-t5.template.json").read_text())
    assert "AWS::SageMaker::Endpoint" in {each["Type"] for each in template["Resources"].values()}
    assert str(checkout.root / "templates") in written.stdout
