"""What is up, where somebody has been at it behind CloudFormation's back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from heavylift.deploy import stacks
from heavylift.deploy.console import Console
from heavylift.deploy.flow import Deployment, Outcome
from heavylift.deploy.prepare import prepare
from heavylift.deploy.state import endpoint, text
from heavylift.errors import DeployError
from heavylift.project import Project
from tests.conftest import ROOT


@pytest.fixture
def sagemaker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("sagemaker")
        yield client
        client.close()


def test_an_endpoint_that_somebody_deleted_is_missing_and_hides_nothing_else(sagemaker: Any) -> None:
    found = endpoint(sagemaker, "tiny-t5")

    assert found == {"name": "tiny-t5", "status": "missing", "endpoint_config": None}
    shown = text({"embedded_aws": None, "stacks": [{"name": "s", "status": "x"}], "endpoints": [found]})
    assert shown.splitlines() == ["stack         s  x", "endpoint      tiny-t5  missing"]


def test_a_stack_without_changes_whose_endpoint_is_gone_is_no_success(sagemaker: Any, tmp_path: Path) -> None:
    prepared = prepare(ROOT / "models" / "tiny-t5.yaml", lambda done, total: None)
    deployment = Deployment(Project(tmp_path), prepared, Console())

    with pytest.raises(DeployError, match=r"the endpoint tiny-t5 is missing: .*`heavylift destroy`"):
        deployment._check_serving()


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name heavylift-tiny-t5"),
        ("ROLLBACK_FAILED", "can only be removed: `heavylift destroy`"),
        ("DELETE_FAILED", "can only be removed: `heavylift destroy`"),
    ],
)
def test_a_stack_that_takes_no_deployment_comes_with_the_way_out(sagemaker: Any, status: str, mend: str) -> None:
    prepared = prepare(ROOT / "models" / "tiny-t5.yaml", lambda done, total: None)
    deployment = Deployment(Project(ROOT), prepared, Console())

    with pytest.raises(DeployError) as raised:
        deployment._explain("heavylift-tiny-t5", Outcome(status, None, None, measured_now=False))

    assert mend in str(raised.value)
    assert stacks.way_out("UPDATE_ROLLBACK_COMPLETE", "heavylift-tiny-t5") is None
