"""SageMaker, Auto Scaling and the bucket's properties in the embedded AWS: what they keep, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.embedded import Embedded
from tests.local_stack import ROLE, stack

pytestmark = pytest.mark.slow

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/m:1"


def variant(**given: Any) -> dict[str, Any]:
    """A production variant of the model "known"."""
    return {
        "VariantName": "A",
        "ModelName": "known",
        "InstanceType": "ml.c6i.xlarge",
        "InitialInstanceCount": 1,
        **given,
    }


def source(uri: str, kind: str = "S3Prefix", compression: str = "None") -> dict[str, Any]:
    """A container with model data."""
    data = {"S3Uri": uri, "S3DataType": kind, "CompressionType": compression}
    return {"Image": IMAGE, "ModelDataSource": {"S3DataSource": data}}


@pytest.fixture(scope="module")
def sagemaker(local_aws: Embedded) -> Any:
    """boto3's SageMaker, with the model "known"."""
    client = local_aws.client("sagemaker")
    client.create_model(ModelName="known", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
    return client


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"ModelName": "x_y", "PrimaryContainer": {"Image": IMAGE}}, "ModelName is 'x_y'; it must match"),
        ({"ModelName": "x" * 64, "PrimaryContainer": {"Image": IMAGE}}, "has length 64; at most 63"),
        ({"ModelName": "x", "Containers": [{"Image": IMAGE}] * 2}, "has 2 containers"),
        ({"ModelName": "x"}, "has 0 containers"),
        ({"ModelName": "x", "PrimaryContainer": source("s3://b/p")}, "with the slash at its end"),
        (
            {"ModelName": "x", "PrimaryContainer": source("s3://b/p", "S3Object", "Gzip")},
            "S3Object with compression Gzip",
        ),
        ({"ModelName": "x", "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://b/p.tar.gz"}}, "ModelDataUrl"),
        ({"ModelName": "known", "PrimaryContainer": {"Image": IMAGE}}, "already existing"),
        ({"ModelName": "x", "PrimaryContainer": {"Image": IMAGE, "Environment": {"1A": "b"}}}, "'1A'; it must match"),
        (
            {"ModelName": "x", "PrimaryContainer": {"Image": IMAGE, "Environment": {f"A{i}": "b" for i in range(101)}}},
            "has length 101; at most 100",
        ),
    ],
)
def test_a_model_that_sagemaker_would_refuse_is_refused(sagemaker: Any, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ClientError, match=sentence) as raised:
        sagemaker.create_model(ExecutionRoleArn=ROLE, **given)

    assert raised.value.response["Error"]["Code"] == "ValidationException"


@pytest.mark.parametrize(
    ("variants", "sentence"),
    [
        ([variant(InstanceType="ml.nope.xlarge")], "InstanceType is 'ml.nope.xlarge'; one of"),
        ([variant(ContainerStartupHealthCheckTimeoutInSeconds=7200)], "is 7200; from 60 to 3600"),
        ([variant(VolumeSizeInGB=9999)], "is 9999; from 1 to 512"),
        ([variant(InferenceAmiVersion="al9")], "InferenceAmiVersion is 'al9'"),
        ([variant(), variant()], "variant names must differ; got A, A"),
        ([variant(ModelName="unknown")], "Could not find model"),
    ],
)
def test_an_endpoint_configuration_that_sagemaker_would_refuse_is_refused(
    sagemaker: Any, variants: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(ClientError, match=sentence):
        sagemaker.create_endpoint_config(EndpointConfigName="x", ProductionVariants=variants)


def test_every_fault_of_a_request_is_named_at_once(sagemaker: Any) -> None:
    faulty = variant(InstanceType="ml.nope.xlarge", VolumeSizeInGB=9999)

    with pytest.raises(ClientError) as raised:
        sagemaker.create_endpoint_config(EndpointConfigName="x_y", ProductionVariants=[faulty])

    assert "3 fault(s)" in str(raised.value)
    assert all(word in str(raised.value) for word in ("x_y", "ml.nope.xlarge", "9999"))


def test_an_unknown_operation_is_named(sagemaker: Any) -> None:
    with pytest.raises(ClientError, match="does not know ListNotebookInstances"):
        sagemaker.list_notebook_instances()


def test_a_list_is_filtered_sorted_and_cut_into_pages(sagemaker: Any) -> None:
    for number in range(5):
        sagemaker.create_model(ModelName=f"page-{number}", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})

    pages = list(
        sagemaker.get_paginator("list_models").paginate(
            NameContains="page-", SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
        )
    )

    assert [[row["ModelName"] for row in page["Models"]] for page in pages] == [
        ["page-0", "page-1"],
        ["page-2", "page-3"],
        ["page-4"],
    ]


def test_tags_come_from_the_template_and_change_with_it(local_aws: Embedded) -> None:
    template = stack("tags", {})
    local_aws.deploy("tags", template)
    client = local_aws.client("sagemaker")
    arn = client.describe_endpoint(EndpointName="tags")["EndpointArn"]
    before = {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=arn)["Tags"]}

    template["Resources"]["Endpoint"]["Properties"]["Tags"] = [{"Key": "cost", "Value": "12"}]
    deployed = local_aws.deploy("tags", template)

    after = {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=arn)["Tags"]}
    assert deployed.status == "UPDATE_COMPLETE"
    assert (before["team"], before["aws:cloudformation:stack-name"]) == ("models", "tags")
    assert after["cost"] == "12"
    assert "team" not in after
    local_aws.destroy("tags")


def test_two_instances_are_desired_and_one_process_is_owned_up_to(local_aws: Embedded) -> None:
    local_aws.deploy("two", stack("two", {}, variant={"InitialInstanceCount": "2"}))

    [described] = local_aws.client("sagemaker").describe_endpoint(EndpointName="two")["ProductionVariants"]

    assert (described["DesiredInstanceCount"], described["CurrentInstanceCount"]) == (2, 1)
    local_aws.destroy("two")


def test_scaling_is_kept_as_long_as_its_stack(local_aws: Embedded) -> None:
    template = stack("scaled", {})
    resource = "endpoint/scaled/variant/AllTraffic"
    template["Resources"]["Target"] = {
        "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
        "DependsOn": ["Endpoint"],
        "Properties": {
            "ServiceNamespace": "sagemaker",
            "ResourceId": resource,
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
            "MinCapacity": "1",
            "MaxCapacity": 4,
            "RoleARN": ROLE,
        },
    }
    template["Resources"]["Policy"] = {
        "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
        "Properties": {
            "PolicyName": "concurrency",
            "PolicyType": "TargetTrackingScaling",
            "ScalingTargetId": {"Ref": "Target"},
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": 8,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
            },
        },
    }
    client = local_aws.client("application-autoscaling")

    created = local_aws.deploy("scaled", template)
    template["Resources"]["Target"]["Properties"]["MaxCapacity"] = 6
    updated = local_aws.deploy("scaled", template)

    [target] = client.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])["ScalableTargets"]
    [policy] = client.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)["ScalingPolicies"]
    assert (created.status, updated.status) == ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 6)
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 8.0
    assert local_aws.destroy("scaled").status == "DELETE_COMPLETE"
    assert client.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
    assert client.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []


def test_a_target_of_no_endpoint_rolls_back(local_aws: Embedded) -> None:
    properties = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/nobody/variant/A",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "MinCapacity": 1,
        "MaxCapacity": 4,
    }
    template = {
        "Resources": {"Target": {"Type": "AWS::ApplicationAutoScaling::ScalableTarget", "Properties": properties}}
    }

    deployed = local_aws.deploy("nobody", template)

    assert deployed.status == "ROLLBACK_COMPLETE"
    assert "endpoint/nobody/variant/A" in deployed.reasons("Target")
    local_aws.destroy("nobody")


def test_a_bucket_keeps_its_encryption_and_its_lifecycle(local_aws: Embedded) -> None:
    rules = [
        {"Id": "parts", "Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
        {"Id": "old", "Status": "Enabled", "Prefix": "reports/", "ExpirationInDays": 90},
    ]
    default = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": True}
    properties = {
        "BucketName": "encrypted-bucket",
        "BucketEncryption": {"ServerSideEncryptionConfiguration": [default]},
        "LifecycleConfiguration": {"Rules": rules},
    }
    s3 = local_aws.client("s3")

    deployed = local_aws.deploy(
        "bucket", {"Resources": {"Bucket": {"Type": "AWS::S3::Bucket", "Properties": properties}}}
    )

    assert deployed.status == "CREATE_COMPLETE"
    [rule] = s3.get_bucket_encryption(Bucket="encrypted-bucket")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"].endswith("alias/aws/s3")
    assert rule["BucketKeyEnabled"] is True
    kept = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket="encrypted-bucket")["Rules"]}
    assert kept["parts"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert kept["old"]["Expiration"] == {"Days": 90}
    assert kept["old"]["Filter"] == {"Prefix": "reports/"}
    local_aws.destroy("bucket")
