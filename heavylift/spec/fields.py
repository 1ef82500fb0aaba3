"""The kinds of values that a model file has: names, folders, ARNs, prefixes, degrees. Not the fields themselves.

A pattern comes with its words: `patternErrorMessage` is what editors (YAML language server) and our own faults say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, Strict
from pydantic_core.core_schema import CoreSchema, literal_schema

Auto = Literal["auto"]
Listed = Strict(False)
"""Lets a YAML list fill a tuple, which a strict model would refuse; its members stay strict."""


class Strictly(BaseModel):
    """Neither unknown keys nor silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def text(pattern: str, allowed: str, longest: int) -> Any:
    """A text field of a pattern, and its words."""
    return Field(pattern=pattern, max_length=longest, json_schema_extra={"patternErrorMessage": allowed})


class OneOf:
    """A text field of one of some words that a table names, not this file."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return literal_schema(list(self.words))


def arn(service: str, resource: str, example: str) -> Any:
    """An ARN of one service; https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html"""
    account = "[0-9]{12}"
    return text(rf"^arn:aws[a-z-]*:{service}:[a-z0-9-]+:{account}:{resource}$", f"an ARN such as {example}", 2048)


Name = Annotated[
    str,
    text(
        r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
        "lower-case letters, digits and single hyphens, beginning with a letter, at most 40 characters",
        40,
    ),
]
BESIDE, LONGEST_BESIDE = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$", 255
Folder = Annotated[
    str,
    text(
        BESIDE,
        "a folder beside this file, or below: letters, digits, '.', '_', '-' and '/', no '..'",
        LONGEST_BESIDE,
    ),
]
BesideFile = Annotated[
    str,
    text(
        BESIDE,
        "a file beside this one, or below: letters, digits, '.', '_', '-' and '/', no '..'",
        LONGEST_BESIDE,
    ),
]
_PREFIX = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()-]+)+/$"
S3Prefix = Annotated[str, text(_PREFIX, "s3://bucket/prefix/, ending with '/'", 1024)]
S3Output = Annotated[str, text(_PREFIX, "s3://bucket/prefix/, ending with '/', at most 512 characters", 512)]
HubId = Annotated[
    str, text(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", "a Hugging Face id such as google/flan-t5-xxl", 96)
]
Revision = Annotated[
    str, text(r"^[0-9a-f]{40}$", "a commit: 40 hexadecimal digits (quoted, if they are all digits)", 40)
]
InstanceType = Annotated[
    str, text(r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", "a SageMaker instance type such as ml.c6i.xlarge", 63)
]
SageMakerName = Annotated[
    str,
    text(r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$", "letters, digits and inner hyphens, at most 63 characters", 63),
]  # VariantName, InferenceComponentName: API_ProductionVariant, API_CreateInferenceComponent
KeyArn = Annotated[str, arn("kms", r"(key|alias)/[A-Za-z0-9/_-]+", "arn:aws:kms:us-east-1:123456789012:key/1234abcd")]
SecretArn = Annotated[
    str,
    arn(
        "secretsmanager",
        r"secret:[A-Za-z0-9/_+=.@!-]+-[A-Za-z0-9]{6}",  # whole: without the six signs, no policy can name it exactly
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:hub-AbCdEf",
    ),
]
TopicArn = Annotated[str, arn("sns", r"[A-Za-z0-9_-]+(\.fifo)?", "arn:aws:sns:us-east-1:123456789012:topic")]
ReservationArn = Annotated[
    str, arn("sagemaker", r"[a-z0-9-]{1,14}/.+", "arn:aws:sagemaker:us-east-1:123456789012:training-plan/name")
]
Image = Annotated[
    str,
    text(
        r"^[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/[a-z0-9._/-]+(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$",
        "an ECR image with its tag or digest, at most 255 characters",
        255,  # ContainerDefinition.Image
    ),
]
Subnet = Annotated[str, text(r"^subnet-[0-9a-f]{8,17}$", "a subnet's id such as subnet-0123456789abcdef0", 32)]
SecurityGroup = Annotated[str, text(r"^sg-[0-9a-f]{8,17}$", "a security group's id such as sg-0123456789abcdef0", 32)]
Account = Annotated[str, text(r"^[0-9]{12}$", "an AWS account: 12 digits, in quotes", 12)]
Region = Annotated[str, text(r"^[a-z]{2}(-[a-z]+)+-[0-9]$", "an AWS region such as us-east-1", 32)]
Variable = Annotated[
    str, text(r"^[A-Za-z_][A-Za-z0-9_]*$", "an environment variable's name: letters, digits and '_'", 128)
]
Timeout = Annotated[int, Field(ge=60, le=3600)]
Volume = Annotated[int, Field(ge=1, le=512)]
Count = Annotated[int, Field(ge=1, le=1000)]
Degree = Annotated[int, Field(ge=1, le=64)]
Percentile = Annotated[float, Field(gt=0, lt=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Scalar = bool | int | float | str
