"""The foundation's template, by property: what outlives every model. Not the models' stacks: test_stacks.py."""

from __future__ import annotations

import json

import pytest

from tests.cdk import Match, Synthesized, end_of, listed, synthesize

FOUNDATION = "heavylift-foundation"


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Synthesized:
    return synthesize(tmp_path_factory.mktemp("assembly"))


def test_the_buckets_are_private_encrypted_and_survive_their_stack(synthesized: Synthesized) -> None:
    template = synthesized.template(FOUNDATION)

    template.resource_count_is("AWS::S3::Bucket", 2)
    template.all_resources(
        "AWS::S3::Bucket",
        {
            "DeletionPolicy": "RetainExceptOnCreate",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "BucketEncryption": {
                    "ServerSideEncryptionConfiguration": [
                        {
                            "BucketKeyEnabled": True,
                            "ServerSideEncryptionByDefault": {
                                "SSEAlgorithm": "aws:kms",
                                "KMSMasterKeyID": Match.any_value(),
                            },
                        }
                    ]
                },
                "PublicAccessBlockConfiguration": {
                    "BlockPublicAcls": True,
                    "BlockPublicPolicy": True,
                    "IgnorePublicAcls": True,
                    "RestrictPublicBuckets": True,
                },
                "LifecycleConfiguration": {
                    "Rules": Match.array_with(
                        [
                            Match.object_like(
                                {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}, "Status": "Enabled"}
                            )
                        ]
                    )
                },
                "BucketName": Match.absent(),
            },
        },
    )


def test_what_jobs_leave_behind_goes_after_a_week_and_nothing_else_does(synthesized: Synthesized) -> None:
    buckets = synthesized.template(FOUNDATION).find_resources("AWS::S3::Bucket").values()
    rules = [rule for each in buckets for rule in each["Properties"]["LifecycleConfiguration"]["Rules"]]

    expiring = [rule for rule in rules if "ExpirationInDays" in rule]

    assert [(rule["Prefix"], rule["ExpirationInDays"]) for rule in expiring] == [("jobs/", 7)]


def test_the_buckets_refuse_requests_without_tls(synthesized: Synthesized) -> None:
    template = synthesized.template(FOUNDATION)

    template.resource_count_is("AWS::S3::BucketPolicy", 2)
    deny = {"Action": "s3:*", "Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    template.all_resources_properties(
        "AWS::S3::BucketPolicy",
        {"PolicyDocument": {"Statement": Match.array_with([Match.object_like(deny)])}},
    )


def test_the_key_rotates_and_survives(synthesized: Synthesized) -> None:
    synthesized.template(FOUNDATION).has_resource(
        "AWS::KMS::Key", {"DeletionPolicy": "RetainExceptOnCreate", "Properties": {"EnableKeyRotation": True}}
    )


def test_the_execution_role_may_read_models_and_nothing_else(synthesized: Synthesized) -> None:
    policy = synthesized.only(FOUNDATION, "AWS::IAM::Policy")
    allowed = {action: each for each in policy["PolicyDocument"]["Statement"] for action in listed(each["Action"])}

    assert set(allowed) == {
        "s3:GetObject",
        "s3:ListBucket",
        "kms:Decrypt",
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "cloudwatch:PutMetricData",
    }
    everywhere = {action for action, statement in allowed.items() if "*" in listed(statement["Resource"])}
    assert everywhere == {"ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}
    assert "cloudwatch:namespace" in allowed["cloudwatch:PutMetricData"]["Condition"]["StringLike"]
    assert allowed["s3:ListBucket"]["Condition"] == {
        "StringLike": {"s3:prefix": ["weights/*", "artifacts/*", "config/*"]}
    }
    objects = [arn["Fn::Join"][1][-1] for arn in allowed["s3:GetObject"]["Resource"]]
    assert sorted(objects) == ["/artifacts/*", "/config/*", "/weights/*"]


def test_only_this_accounts_sagemaker_may_take_the_role(synthesized: Synthesized) -> None:
    trust = synthesized.only(FOUNDATION, "AWS::IAM::Role")["AssumeRolePolicyDocument"]["Statement"]

    assert [each["Principal"] for each in trust] == [{"Service": "sagemaker.amazonaws.com"}]
    assert trust[0]["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_the_foundation_says_its_names(synthesized: Synthesized) -> None:
    outputs = synthesized.json(FOUNDATION)["Outputs"]

    assert {"WeightsBucketName", "ReportsBucketName", "RoleArn", "KeyArn"} <= set(outputs)


def test_the_functions_log_is_encrypted_with_a_key_that_the_log_service_may_use_for_it_alone(
    synthesized: Synthesized,
) -> None:
    template = synthesized.template(FOUNDATION)

    template.has_resource_properties("AWS::Logs::LogGroup", {"KmsKeyId": Match.any_value()})
    statements = synthesized.only(FOUNDATION, "AWS::KMS::Key")["KeyPolicy"]["Statement"]
    (logs,) = [each for each in statements if "Service" in each["Principal"]]
    assert "logs." in json.dumps(logs["Principal"])
    whose = logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    assert end_of(whose) == ":log-group:heavylift-foundation-*"
