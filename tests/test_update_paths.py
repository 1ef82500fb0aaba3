"""What an update replaces and what it keeps, through the real CLI; and a health check that never passes, by boto3.

Not an image's change, nor a container that ends at its start: test_stacks_embedded.py. Not a missed SLO: test_up.py.
"""

from __future__ import annotations

from subprocess import CompletedProcess

import pytest

from tests.checkout import Checkout
from tests.embedded import Embedded
from tests.local_stack import stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KINDS = ("Model", "EndpointConfig", "Endpoint")


def serving(checkout: Checkout) -> dict[str, str]:
    """The physical ids of what serves."""
    found = checkout.client("cloudformation").describe_stack_resources(StackName="heavylift-tiny-t5")["StackResources"]
    ids = {row["ResourceType"]: row["PhysicalResourceId"] for row in found}
    return {kind: ids[f"AWS::SageMaker::{kind}"] for kind in KINDS}


def up(checkout: Checkout, changed: str = "", into: str = "") -> CompletedProcess[str]:
    """`heavylift up`, after one line of the model file is changed."""
    file = checkout.root / "models" / "tiny-t5.yaml"
    text = file.read_text()
    assert changed in text
    file.write_text(text.replace(changed, into, 1))
    return checkout.run("up", "models/tiny-t5.yaml", "--local", "--port", str(checkout.port))


def replaced(checkout: Checkout, before: dict[str, str]) -> set[str]:
    return {kind for kind, id in serving(checkout).items() if id != before[kind]}


def test_each_change_replaces_what_it_must_and_keeps_the_rest(checkout: Checkout) -> None:
    checkout.light()
    first = up(checkout)
    assert first.returncode == 0, first.stdout + first.stderr

    before = serving(checkout)
    done = up(checkout, "max_ms: 2000", "max_ms: 2500")
    assert done.returncode == 0, done.stdout + done.stderr
    assert replaced(checkout, before) == set(), "another target is measured on the same endpoint"
    assert "measured then, not again" not in done.stdout

    done = up(checkout, "\nbenchmark:", "\ninstance_type: ml.m5.2xlarge\nbenchmark:")
    assert done.returncode == 0, done.stdout + done.stderr
    assert replaced(checkout, before) == {"EndpointConfig"}, "another instance type runs the same Model"

    before = serving(checkout)
    with open(checkout.root / "models" / "tiny-t5" / "config.json", "a") as config:
        config.write("\n")
    done = up(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert replaced(checkout, before) == {"Model", "EndpointConfig"}, "other weights have another prefix"


def test_a_health_check_that_never_passes_ends_with_the_old_endpoint_serving(local_aws: Embedded) -> None:
    assert local_aws.deploy("unwell", stack("unwell", {"MODEL_NAME": "well"})).status == "CREATE_COMPLETE"

    failed = local_aws.deploy("unwell", stack("unwell", {"MODEL_NAME": "unwell", "NEVER_HEALTHY": "1"}))

    assert failed.status == "UPDATE_ROLLBACK_COMPLETE", failed.events
    assert "/ping did not answer 200 within 60 s" in failed.reasons("Endpoint")
    reply = local_aws.client("sagemaker-runtime").invoke_endpoint(EndpointName="unwell", Body=b"{}")
    assert b'"model": "well"' in reply["Body"].read()
    local_aws.destroy("unwell")
