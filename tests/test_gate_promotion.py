"""Updates whose model is measured before it serves, by the real CLI in the embedded AWS: promoted, and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.checkout import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Deployments:
    """One model file, deployed again and again; what SageMaker and the report bucket say then."""

    def __init__(self, checkout: Checkout, strategy: str) -> None:
        self.checkout, self.strategy = checkout, strategy
        self.file = checkout.light()
        self.text = self.file.read_text()

    def up(self, *, delay: int, p90_ms: float = 60_000) -> tuple[int, str]:
        """Another model, by its batch delay; the exit code and all that was said."""
        assert "batch_size: 4\n" in self.text and "max_ms: 2000" in self.text
        text = self.text.replace("batch_size: 4\n", f"batch_size: 4\n  max_batch_delay: {delay}\n")
        text = text.replace("max_ms: 2000", f"max_ms: {p90_ms}")
        self.file.write_text(f"{text}gate: {{strategy: {self.strategy}}}\n")
        done = self.checkout.run("up", "models/tiny-t5.yaml", "--local", "--port", str(self.checkout.port))
        return done.returncode, done.stdout + done.stderr

    @property
    def config(self) -> str:
        """The live one; there is one variant, with all the traffic."""
        found = self.checkout.client("sagemaker").describe_endpoint(EndpointName="tiny-t5")
        assert found["EndpointStatus"] == "InService"
        assert [(each["VariantName"], each["CurrentWeight"]) for each in found["ProductionVariants"]] == [
            ("AllTraffic", 1.0)
        ]
        return str(found["EndpointConfigName"])

    @property
    def left(self) -> list[str]:
        """What a stage should not leave behind."""
        sagemaker = self.checkout.client("sagemaker")
        endpoints = [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]]
        configs = [each["EndpointConfigName"] for each in sagemaker.list_endpoint_configs()["EndpointConfigs"]]
        return [name for name in endpoints if name != "tiny-t5"] + [name for name in configs if "-dark-" in name]

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Oldest first."""
        s3 = self.checkout.client("s3")
        (bucket,) = [each["Name"] for each in s3.list_buckets()["Buckets"] if "reports" in each["Name"]]
        keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix="reports/tiny-t5/")["Contents"]]
        return [
            json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
            for key in sorted(keys)
            if key.endswith("/report.json")
        ]

    @property
    def stack(self) -> str:
        stacks = self.checkout.client("cloudformation").describe_stacks(StackName="heavylift-tiny-t5")["Stacks"]
        return str(stacks[0]["StackStatus"])


@pytest.mark.parametrize(
    ("strategy", "place"), [("dark_variant", "tiny-t5/dark-AllTraffic"), ("staging", "tiny-t5-staging")]
)
def test_an_update_is_promoted_or_refused_before_anybody_meets_it(
    checkout: Checkout, strategy: str, place: str
) -> None:
    made = Deployments(checkout, strategy)

    created, told = made.up(delay=11)
    assert created == 0, told
    first = made.config

    promoted, told = made.up(delay=12)
    assert promoted == 0, told
    second = made.config
    assert second != first
    assert made.left == []
    assert [(each["endpoint"], each["verdict"]) for each in made.reports] == [("tiny-t5", "PASS"), (place, "PASS")]

    refused, told = made.up(delay=13, p90_ms=0.1)
    assert refused == 3, told
    assert "missed its targets" in told
    assert made.config == second, "users never met the new model"
    assert made.stack == "UPDATE_ROLLBACK_COMPLETE"
    assert made.left == []
    assert [(each["endpoint"], each["verdict"]) for each in made.reports[2:]] == [(place, "FAIL")]
    assert made.checkout.run("invoke", "models/tiny-t5.yaml", "--local", "words: 71").returncode == 0
