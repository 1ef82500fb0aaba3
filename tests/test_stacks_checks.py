"""The templates under the eyes of others: cdk-nag, cfn-lint, and botocore's own model of SageMaker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from heavylift.errors import InputError
from heavylift.plan.parts import Instance, Variant
from tests.cdk import App, Synthesized, plan, resolve, synthesize
from tests.judges import add_nag, lint, nag

PLANS = (
    plan(),
    plan(name="isolated", enable_network_isolation=True, benchmark=None, gate_digest=None),
    plan(
        name="large",
        instance=Instance("ml.p3.16xlarge", 1, 64, 488.0, "V100", 8, 16.0, False, 25.0, None),
        variant=Variant(3600, 3600, 512, "al2-ami-sagemaker-inference-gpu-3-1"),
    ),
)
STACKS = ("heavylift-foundation", *(f"heavylift-{each.name}" for each in PLANS))


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    return synthesize(tmp_path_factory.mktemp("assembly"), *PLANS, prepare=add_nag)


def test_cdk_nag_finds_nothing_that_has_no_reason(synthesized: Synthesized) -> None:
    assert nag(synthesized) == []


def test_cdk_nag_would_find_a_careless_bucket(tmp_path: Path) -> None:
    def add_open_bucket(app: App) -> None:
        from aws_cdk import Stack
        from aws_cdk.aws_s3 import Bucket

        add_nag(app)
        Bucket(Stack(app, "careless"), "Bucket")

    with pytest.raises(RuntimeError, match="AwsSolutions-S1"):
        synthesize(tmp_path, prepare=add_open_bucket)


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
def test_cfn_lint_finds_no_error(synthesized: Synthesized, stack: str) -> None:
    assert lint(synthesized, stack) == []


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS[1:])
@pytest.mark.parametrize(
    ("kind", "operation", "named"),
    [
        ("AWS::SageMaker::Model", "CreateModel", {"ModelName": "a-model"}),
        ("AWS::SageMaker::EndpointConfig", "CreateEndpointConfig", {"EndpointConfigName": "a-config"}),
        ("AWS::SageMaker::Endpoint", "CreateEndpoint", {}),
    ],
)
def test_sagemakers_own_model_accepts_the_properties(
    synthesized: Synthesized, stack: str, kind: str, operation: str, named: dict[str, str]
) -> None:
    properties = resolve(synthesized.only(stack, kind)) | named

    assert _faults(operation, properties) == ""


def test_sagemakers_own_model_would_refuse_a_timeout_below_its_limit(synthesized: Synthesized) -> None:
    properties = resolve(synthesized.only("heavylift-tiny-t5", "AWS::SageMaker::EndpointConfig"))
    properties["ProductionVariants"][0]["ModelDataDownloadTimeoutInSeconds"] = 59

    assert "59, valid min value: 60" in _faults("CreateEndpointConfig", properties | {"EndpointConfigName": "c"})


def test_a_timeout_above_sagemakers_limit_ends_the_synthesis(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'model_data_download_timeout_in_seconds' must be 60 to 3600: got 3601"):
        synthesize(tmp_path, plan(variant=Variant(3601, 60, None, None)))


def _faults(operation: str, properties: dict[str, Any]) -> str:
    """What botocore's validator says: unknown and missing members, wrong types, minima."""
    service = botocore.session.get_session().get_service_model("sagemaker")
    shape = service.operation_model(operation).input_shape
    assert shape is not None
    return ParamValidator().validate(properties, shape).generate_report()
