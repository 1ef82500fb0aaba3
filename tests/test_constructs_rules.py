"""Our own rules as aspects: what somebody wrote by hand is seen, and what our constructs make passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from aws_cdk import Aspects
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk.assertions import Annotations, Match

from heavylift_cdk import Rules
from tests.cdk import App, Stack
from tests.hosting import CASES


@pytest.fixture(scope="module")
def careless() -> Stack:
    """What the peers' samples do."""
    stack = Stack(App(), "careless")
    access = iam.ManagedPolicy.from_aws_managed_policy_name("AmazonSageMakerFullAccess")
    service = iam.ServicePrincipal("sagemaker.amazonaws.com")
    role = iam.Role(stack, "Role", assumed_by=service, managed_policies=[access])
    data = {"s3DataSource": {"s3Uri": "s3://b/weights", "s3DataType": "S3Prefix", "compressionType": "None"}}
    container = sagemaker.CfnModel.ContainerDefinitionProperty(
        image="123456789012.dkr.ecr.eu-west-1.amazonaws.com/m:1",
        environment={"HF_TOKEN": "hf_abc"},
        model_data_source=data,
    )
    model = sagemaker.CfnModel(
        stack, "Model", execution_role_arn=role.role_arn, model_name="mine", primary_container=container
    )
    variant = sagemaker.CfnEndpointConfig.ProductionVariantProperty(
        variant_name="a", model_name=model.attr_model_name, instance_type="ml.g5.xlarge", volume_size_in_gb=64,
        initial_instance_count=1, initial_variant_weight=1,
    )  # fmt: skip
    config = sagemaker.CfnEndpointConfig(
        stack, "Config", endpoint_config_name="mine", kms_key_id="alias/mine", production_variants=[variant]
    )
    sagemaker.CfnEndpoint(stack, "Endpoint", endpoint_config_name=config.attr_endpoint_config_name)
    Aspects.of(stack).add(Rules())
    return stack


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/careless/Model", r"give it no name: got 'mine'.*heavylift:replaceable"),
        ("/careless/Config", r"give it no name: got 'mine'"),
        ("/careless/Model", r"'HF_TOKEN' must not be plain text.*heavylift:no_plain_secrets"),
        ("/careless/Model", r"an S3Prefix ends with '/': got 's3://b/weights'"),
        ("/careless/Role/Resource", r"heavylift:not_everything"),
    ],
)
def test_what_would_fail_or_leak_ends_the_synthesis(careless: Stack, path: str, sentence: str) -> None:
    assert Annotations.from_stack(careless).find_error(path, Match.string_like_regexp(sentence))


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/careless/Config", r"'volume_size_in_gb' must be left out on ml\.g5\.xlarge"),
        ("/careless/Config", r"'kms_key_id' does not cover the local disk"),
        ("/careless/Endpoint", r"no alarm takes an update back"),
    ],
)
def test_what_may_be_meant_is_a_warning(careless: Stack, path: str, sentence: str) -> None:
    assert Annotations.from_stack(careless).find_warning(path, Match.string_like_regexp(sentence))


def test_our_constructs_pass(tmp_path: Path) -> None:
    for name in ("everything", "components"):
        stack = Stack(App(outdir=str(tmp_path / name)), name)
        CASES[name](stack)
        Aspects.of(stack).add(Rules())

        assert Annotations.from_stack(stack).find_error("*", Match.any_value()) == []
