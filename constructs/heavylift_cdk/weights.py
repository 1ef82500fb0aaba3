"""Weights: the bucket of models' files: encrypted, private, TLS only, versioned, and kept when its stack goes.

Not the files: `heavylift weights push` or the staging job (staging.py) brings them, each model to a prefix of its own.
"""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from heavylift_cdk.checks import acknowledge
from heavylift_cdk.model_data import ModelData

OLD_VERSIONS_DAYS = 30
JOBS_DAYS = 7  # of what jobs leave below jobs/: a request waits an hour, what a job has made is copied when it ends


class Weights(Construct):
    """`bucket`, under `key`."""

    def __init__(self, scope: Construct, id: str, *, key: kms.IKey) -> None:
        super().__init__(scope, id)
        self.key = key
        jobs = s3.LifecycleRule(prefix="jobs/", expiration=Duration.days(JOBS_DAYS))
        self.bucket = kept_bucket(self, "Default", key, jobs)
        acknowledge(self, "S1", "CloudTrail's data events log access where that is wanted")

    def model(self, digest: str) -> ModelData:
        """The files of the model with this digest (of a lock), below `weights/<digest>/`."""
        return ModelData.from_prefix(self.bucket, f"weights/{digest}/")

    def grant_read(self, grantee: iam.IGrantable, digest: str) -> None:
        """Let `grantee` read one model's files, no others."""
        self.model(digest).grant_read(grantee)


def kept_bucket(scope: Construct, id: str, key: kms.IKey, *rules: s3.LifecycleRule) -> s3.Bucket:
    """Private, encrypted, TLS only, and kept when its stack goes; `rules` are further ones of what lives how long.

    No key is ever written twice, so an old version is only what somebody deleted.
    """
    old = s3.LifecycleRule(
        abort_incomplete_multipart_upload_after=Duration.days(7),
        noncurrent_version_expiration=Duration.days(OLD_VERSIONS_DAYS),
    )
    return s3.Bucket(
        scope,
        id,
        encryption=s3.BucketEncryption.KMS,
        encryption_key=key,
        bucket_key_enabled=True,  # one KMS call for many objects
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        enforce_ssl=True,
        versioned=True,
        lifecycle_rules=[old, *rules],
        removal_policy=RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
    )
