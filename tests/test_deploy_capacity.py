"""No machines, or no quota: told apart, explained, tried again where that helps, seen before where it can be."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from heavylift.deploy.capacity import NoCapacity, explained, lacks_capacity, retried
from heavylift.deploy.quota import check
from heavylift.errors import DeployError

LACK = "Endpoint: Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error."
QUOTA = "Endpoint: The account-level service limit 'ml.g5.xlarge for endpoint usage' is 0: ResourceLimitExceeded"


def test_a_lack_of_machines_and_a_small_quota_are_told_apart() -> None:
    assert lacks_capacity([LACK]) and not lacks_capacity([QUOTA])
    (lack,), (quota,) = explained([LACK], "ml.g5.xlarge"), explained([QUOTA], "ml.g5.xlarge")
    assert "no ml.g5.xlarge free" in lack and "--retry-capacity" in lack and "instance_pools" in lack
    assert "'ml.g5.xlarge for endpoint usage'" in quota and "does not help" in quota
    (job,) = explained(
        [QUOTA.replace("ml.g5.xlarge for endpoint", "ml.trn1.32xlarge for training job")], "ml.g5.xlarge"
    )
    assert "'ml.trn1.32xlarge for training job usage' is too small" in job
    assert explained(["Endpoint: the container exited with code 3"], "ml.g5.xlarge") == []


def deployments(*outcomes: Exception | str) -> Any:
    """A deployment that ends with each outcome in turn."""
    left = list(outcomes)

    def deploy() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return deploy


def test_a_deployment_is_tried_again_with_longer_pauses_while_there_is_no_capacity() -> None:
    paused: list[float] = []
    said: list[str] = []
    lacks = [NoCapacity("none") for _ in range(5)]

    assert retried(deployments(*lacks, "served"), 5, said.append, paused.append) == "served"

    assert paused == [60, 120, 240, 480, 900]
    assert "5 of 5 left" in said[0] and "1 of 5 left" in said[-1]


@pytest.mark.parametrize(
    ("outcomes", "retries", "ends", "pauses"),
    [
        ([NoCapacity("first"), NoCapacity("last")], 1, "last", 1),
        ([NoCapacity("only")], 0, "only", 0),
        ([NoCapacity("first"), DeployError("unhealthy"), "served"], 5, "unhealthy", 1),
    ],
)
def test_it_is_tried_no_more_than_asked_and_nothing_else_is_tried_again(
    outcomes: list[Any], retries: int, ends: str, pauses: int
) -> None:
    paused: list[float] = []

    with pytest.raises(DeployError, match=ends):
        retried(deployments(*outcomes), retries, lambda line: None, paused.append)

    assert len(paused) == pauses


def test_a_quota_that_is_too_small_is_seen_before_the_deployment() -> None:
    quotas, sagemaker = account(limit=2, running=1)

    with pytest.raises(DeployError) as raised:
        check(quotas, sagemaker, "mine", {"ml.g5.xlarge": 2})

    assert "'ml.g5.xlarge for endpoint usage' is 2: 2 wanted, 1 in other endpoints; raise it to 3" in str(raised.value)


def test_a_quota_that_is_large_enough_is_told() -> None:
    quotas, sagemaker = account(limit=4, running=1)

    lines = check(quotas, sagemaker, "mine", {"ml.g5.xlarge": 2, "ml.p5.48xlarge": 1})

    assert lines == [
        "ml.g5.xlarge: 2 wanted, 1 in other endpoints, quota 4",
        "ml.p5.48xlarge: Service Quotas does not tell its quota",
    ]


def test_a_job_that_the_account_may_not_run_is_seen_before_the_deployment() -> None:
    quotas, sagemaker = account(limit=4, running=1)

    with pytest.raises(DeployError) as raised:
        check(quotas, sagemaker, "mine", {"ml.g5.xlarge": 2}, None, {"training": "ml.trn1.32xlarge"})

    assert str(raised.value).startswith("the quota 'ml.trn1.32xlarge for training job usage' is 0, and this model's")


def test_an_account_that_may_not_ask_is_not_held_up() -> None:
    quotas = boto3.client("service-quotas", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(quotas) as stub:
        stub.add_client_error("list_aws_default_service_quotas", "AccessDeniedException")

        (line,) = check(quotas, None, "mine", {"ml.g5.xlarge": 1})

    assert line.startswith("quotas not checked: ") and "AccessDenied" in line


def account(*, limit: int, running: int) -> tuple[Any, Any]:
    """Service Quotas and SageMaker of an account: the endpoint "mine", one other, and one that is being deleted."""
    keys = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    quotas, sagemaker = boto3.client("service-quotas", **keys), boto3.client("sagemaker", **keys)
    first, second = Stubber(quotas), Stubber(sagemaker)
    name = "ml.g5.xlarge for endpoint usage"
    first.add_response("list_aws_default_service_quotas", {"Quotas": [{"QuotaName": name, "Value": 0.0}]})
    job = {"QuotaName": "ml.trn1.32xlarge for training job usage", "Value": 0.0}
    first.add_response("list_service_quotas", {"Quotas": [{"QuotaName": name, "Value": float(limit)}, job]})
    arn, when = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/x", 0
    rows = [
        {"EndpointName": each, "EndpointArn": arn, "CreationTime": when, "LastModifiedTime": when, "EndpointStatus": s}
        for each, s in (("mine", "InService"), ("other", "InService"), ("gone", "Deleting"))
    ]
    second.add_response("list_endpoints", {"Endpoints": rows})
    described = {**rows[1], "EndpointConfigName": "c", "ProductionVariants": [
        {"VariantName": "A", "DesiredInstanceCount": running}]}  # fmt: skip
    second.add_response("describe_endpoint", described, {"EndpointName": "other"})
    variant = {"VariantName": "A", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 9}
    config = {"EndpointConfigName": "c", "EndpointConfigArn": arn, "CreationTime": when}
    second.add_response("describe_endpoint_config", {**config, "ProductionVariants": [variant]})
    first.activate()
    second.activate()
    return quotas, sagemaker
