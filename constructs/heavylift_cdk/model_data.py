"""ModelData: files in S3 that SageMaker puts into /opt/ml/model. Not how they got there: weights.py, staging.py.

Rules of keys and types: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3ModelDataSource.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker

from heavylift_cdk.bounds import refuse
from heavylift_cdk.values import constant, is_token

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_s3 as s3

LONGEST_URI, LONGEST_SEGMENT = 1024, 255


@dataclass(frozen=True)
class ModelData:
    """Files of one model, or the archives of many. Make one with a named constructor.

    `granted`: the endpoint's role may read them already; else it is let to.
    """

    bucket: s3.IBucket
    key: str
    kind: Literal["prefix", "archive", "archives"]
    granted: bool = False

    @classmethod
    def from_prefix(cls, bucket: s3.IBucket, prefix: str, *, granted: bool = False) -> ModelData:
        """Every object below `prefix`, as it is; a prefix ends with '/'. Raises InputError."""
        refuse(_prefix_faults(prefix))
        return cls(bucket, prefix, "prefix", granted)

    @classmethod
    def from_archive(cls, bucket: s3.IBucket, key: str) -> ModelData:
        """One .tar.gz, which SageMaker unpacks. Raises InputError."""
        refuse(_archive_faults(key))
        return cls(bucket, key, "archive")

    @classmethod
    def from_archives(cls, bucket: s3.IBucket, prefix: str) -> ModelData:
        """The prefix of a multi-model endpoint's .tar.gz files, each loaded when it is asked for. Raises InputError."""
        refuse(_prefix_faults(prefix))
        return cls(bucket, prefix, "archives")

    @property
    def uri(self) -> str:
        """s3://bucket/key."""
        return f"s3://{constant(self.bucket, 'bucket_name')}/{self.key}"

    def source(self) -> sagemaker.CfnModel.ModelDataSourceProperty:
        """The Model's property; `archives` are no source, but a ModelDataUrl."""
        assert self.kind != "archives"
        kind, compression = ("S3Prefix", "None") if self.kind == "prefix" else ("S3Object", "Gzip")
        return sagemaker.CfnModel.ModelDataSourceProperty(
            s3_data_source=sagemaker.CfnModel.S3DataSourceProperty(
                s3_uri=self.uri, s3_data_type=kind, compression_type=compression
            )
        )

    def objects(self) -> list[tuple[s3.IBucket, str]]:
        """The keys that `statements` name with a `*`."""
        return [] if self.kind == "archive" else [(self.bucket, f"{self.key}*")]

    def statements(self) -> list[iam.PolicyStatement]:
        """What a role needs to list and read these objects, no others, and to decrypt them."""
        keys = self.key if self.kind == "archive" else f"{self.key}*"
        found = [
            iam.PolicyStatement(actions=["s3:GetObject"], resources=[self.bucket.arn_for_objects(keys)]),
            iam.PolicyStatement(
                actions=["s3:ListBucket"],
                resources=[self.bucket.bucket_arn],
                conditions={"StringLike": {"s3:prefix": [keys]}},
            ),
        ]
        if self.bucket.encryption_key is not None:
            key = self.bucket.encryption_key.key_arn
            found.append(iam.PolicyStatement(actions=["kms:Decrypt"], resources=[key]))
        return found

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` list and read these objects, no others, and decrypt them."""
        for statement in self.statements():
            grantee.grant_principal.add_to_principal_policy(statement)


def key_faults(keys: Iterable[str]) -> Iterator[str]:
    """What SageMaker refuses of the keys below a prefix, each relative to it: they become paths on a disk."""
    every = set(keys)
    for key in sorted(every):
        parts = key.split("/")
        if any(part in ("", ".", "..") for part in parts):
            yield f"a model's file must have no part that is empty, '.' or '..': got '{key}'"
        if longest := [part for part in parts if len(part.encode()) > LONGEST_SEGMENT]:
            yield f"a part of a file's path must have at most {LONGEST_SEGMENT} bytes: got '{longest[0]}'"
        for at in range(1, len(parts)):
            if (folder := "/".join(parts[:at])) in every:
                yield f"'{folder}' is a file and the folder of '{key}': rename one of them"


def _prefix_faults(prefix: str) -> Iterator[str]:
    if is_token(prefix):
        return
    if not prefix.endswith("/"):
        yield f"a prefix of model data ends with '/': got '{prefix}'"
    yield from key_faults([prefix.removesuffix("/")])
    if len(prefix) > LONGEST_URI:
        yield f"an S3 URI has at most {LONGEST_URI} characters: got a prefix of {len(prefix)}"


def _archive_faults(key: str) -> Iterator[str]:
    if not is_token(key) and not key.endswith(".tar.gz"):
        yield f"an archive of model data is a .tar.gz: got '{key}'; use from_prefix for files as they are"
