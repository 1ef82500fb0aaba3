"""AWS::S3::Bucket's BucketEncryption and LifecycleConfiguration for CloudFormation.

Not their storage: MiniStack's S3 knows them, its CloudFormation drops them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from . import seams
from .settings import Settings


def install(settings: Settings) -> None:
    """Teach them to CloudFormation."""
    s3 = seams.s3()
    key = settings.arn("kms", "alias/aws/s3")
    seams.add_bucket_property(
        "BucketEncryption",
        lambda given: _encryption(given, key),
        _checked(s3._put_bucket_encryption),
        s3._delete_bucket_encryption,
    )
    seams.add_bucket_property(
        "LifecycleConfiguration", _lifecycle, _checked(s3._put_bucket_lifecycle), s3._delete_bucket_lifecycle
    )


def _checked(put: Callable[[str, bytes], tuple[int, Any, bytes]]) -> Callable[[str, bytes], None]:
    """`put`, whose error replies become errors of the stack."""

    def put_or_raise(bucket: str, xml: bytes) -> None:
        status, _, body = put(bucket, xml)
        if status >= 300:
            raise ValueError(f"bucket {bucket}: {body.decode('utf-8', 'replace')}")

    return put_or_raise


def _encryption(given: dict[str, Any], aws_key: str) -> bytes:
    """The PutBucketEncryption body; `aws_key` is S3's own key, taken where SSE-KMS names none, as in AWS."""
    root = Element("ServerSideEncryptionConfiguration")
    for entry in given["ServerSideEncryptionConfiguration"]:
        rule = SubElement(root, "Rule")
        default = entry.get("ServerSideEncryptionByDefault")
        if default is not None:
            applied = SubElement(rule, "ApplyServerSideEncryptionByDefault")
            SubElement(applied, "SSEAlgorithm").text = default["SSEAlgorithm"]
            if default["SSEAlgorithm"].startswith("aws:kms"):
                SubElement(applied, "KMSMasterKeyID").text = default.get("KMSMasterKeyID", aws_key)
        SubElement(rule, "BucketKeyEnabled").text = str(entry.get("BucketKeyEnabled", False)).lower()
    return tostring(root)


def _lifecycle(given: dict[str, Any]) -> bytes:
    """The PutBucketLifecycleConfiguration body, of the rules' parts that Heavylift writes."""
    root = Element("LifecycleConfiguration")
    for number, entry in enumerate(given["Rules"]):
        rule = SubElement(root, "Rule")
        SubElement(rule, "ID").text = entry.get("Id", f"rule-{number}")
        SubElement(rule, "Status").text = entry["Status"]
        SubElement(SubElement(rule, "Filter"), "Prefix").text = entry.get("Prefix", "")
        abort = entry.get("AbortIncompleteMultipartUpload")
        if abort is not None:
            days = SubElement(SubElement(rule, "AbortIncompleteMultipartUpload"), "DaysAfterInitiation")
            days.text = str(abort["DaysAfterInitiation"])
        if "ExpirationInDays" in entry:
            SubElement(SubElement(rule, "Expiration"), "Days").text = str(entry["ExpirationInDays"])
        old = entry.get("NoncurrentVersionExpiration")
        if old is not None:
            days = SubElement(SubElement(rule, "NoncurrentVersionExpiration"), "NoncurrentDays")
            days.text = str(old["NoncurrentDays"])
    return tostring(root)
