"""What SageMaker records of an endpoint: captured requests, metrics, asynchronous results. Not alarms: alarms.py.

Limits: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker

from heavylift.benchmark.spec import INPUTS
from heavylift_cdk.bounds import between

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_sns as sns

Config = sagemaker.CfnEndpointConfig
FREQUENCIES = (10, 30, 60, 120, 180, 240, 300)


@dataclass(frozen=True)
class DataCapture:
    """Requests and replies, a share of them, below `prefix` of `bucket`, under the bucket's key."""

    bucket: s3.IBucket
    prefix: str
    sampling_percentage: int = 100
    capture: tuple[Literal["input", "output"], ...] = ("input", "output")
    json_content_types: tuple[str, ...] = ("application/json",)
    """Kept as they are; of a type that is named nowhere, SageMaker keeps the bytes in Base64."""
    csv_content_types: tuple[str, ...] = ()

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        yield from between("sampling_percentage", self.sampling_percentage, 0, 100)
        if not self.capture:
            yield "'capture' must name input, output, or both"
        yield from between("json_content_types", len(self.json_content_types), 0, 10)
        yield from between("csv_content_types", len(self.csv_content_types), 0, 10)

    def render(self) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty:
        """The EndpointConfig's property."""
        key = self.bucket.encryption_key
        return Config.DataCaptureConfigProperty(
            enable_capture=True,
            initial_sampling_percentage=self.sampling_percentage,
            destination_s3_uri=self.bucket.s3_url_for_object(self.prefix),
            capture_options=[Config.CaptureOptionProperty(capture_mode=each.capitalize()) for each in self.capture],
            kms_key_id=None if key is None else key.key_arn,
            capture_content_type_header=Config.CaptureContentTypeHeaderProperty(
                json_content_types=list(self.json_content_types) or None,
                csv_content_types=list(self.csv_content_types) or None,
            )
            if self.json_content_types or self.csv_content_types
            else None,
        )

    def objects(self) -> list[tuple[s3.IBucket, str]]:
        """The keys that `statements` name with a `*`."""
        return [(self.bucket, f"{self.prefix}*")]

    def statements(self) -> list[iam.PolicyStatement]:
        """What the endpoint's role needs."""
        return write_statements(self.bucket, self.prefix)


@dataclass(frozen=True)
class Metrics:
    """`enhanced`: for each instance and container. `detailed_observability`: for each GPU, and the container's own."""

    enhanced: bool = False
    detailed_observability: bool = True
    publish_frequency_in_seconds: int = 60

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        if self.publish_frequency_in_seconds not in FREQUENCIES:
            allowed = ", ".join(map(str, FREQUENCIES))
            yield f"'publish_frequency_in_seconds' must be one of {allowed}: got {self.publish_frequency_in_seconds}"

    def render(self) -> sagemaker.CfnEndpointConfig.MetricsConfigProperty:
        """The EndpointConfig's property."""
        return Config.MetricsConfigProperty(
            enable_enhanced_metrics=self.enhanced,
            enable_detailed_observability=self.detailed_observability,
            metric_publish_frequency_in_seconds=self.publish_frequency_in_seconds,
        )


@dataclass(frozen=True)
class Asynchronous:
    """InvokeEndpointAsync: results below `prefix` of `bucket`, failures below `failure_prefix`.

    The endpoint's role may also read what a benchmark asks, below the results.
    """

    bucket: s3.IBucket
    prefix: str
    failure_prefix: str | None = None
    max_concurrent_invocations_per_instance: int | None = None
    success_topic: sns.ITopic | None = None
    error_topic: sns.ITopic | None = None
    include_response_in: tuple[Literal["success", "error"], ...] = ()

    def faults(self) -> Iterator[str]:
        """What SageMaker would refuse."""
        most = self.max_concurrent_invocations_per_instance
        yield from between("max_concurrent_invocations_per_instance", most, 1, 1000)
        topics = {"success": self.success_topic, "error": self.error_topic}
        for each in self.include_response_in:
            if topics[each] is None:
                yield f"'include_response_in' names {each}, so '{each}_topic' must be given"

    def render(self) -> sagemaker.CfnEndpointConfig.AsyncInferenceConfigProperty:
        """The EndpointConfig's property."""
        key = self.bucket.encryption_key
        return Config.AsyncInferenceConfigProperty(
            output_config=Config.AsyncInferenceOutputConfigProperty(
                s3_output_path=self.bucket.s3_url_for_object(self.prefix),
                s3_failure_path=None
                if self.failure_prefix is None
                else self.bucket.s3_url_for_object(self.failure_prefix),
                kms_key_id=None if key is None else key.key_arn,
                notification_config=self._notify(),
            ),
            client_config=None
            if self.max_concurrent_invocations_per_instance is None
            else Config.AsyncInferenceClientConfigProperty(
                max_concurrent_invocations_per_instance=self.max_concurrent_invocations_per_instance
            ),
        )

    def _notify(self) -> sagemaker.CfnEndpointConfig.AsyncInferenceNotificationConfigProperty | None:
        if self.success_topic is None and self.error_topic is None:
            return None
        members = {"success": "SUCCESS_NOTIFICATION_TOPIC", "error": "ERROR_NOTIFICATION_TOPIC"}
        return Config.AsyncInferenceNotificationConfigProperty(
            success_topic=None if self.success_topic is None else self.success_topic.topic_arn,
            error_topic=None if self.error_topic is None else self.error_topic.topic_arn,
            include_inference_response_in=[members[each] for each in self.include_response_in] or None,
        )

    @property
    def inputs(self) -> str:
        """The keys of a benchmark's requests."""
        return f"{self.prefix.rstrip('/')}/{INPUTS}*"

    def objects(self) -> list[tuple[s3.IBucket, str]]:
        """The keys that `statements` name with a `*`."""
        prefixes = (self.prefix, self.failure_prefix)
        return [(self.bucket, f"{prefix}*") for prefix in prefixes if prefix is not None] + [(self.bucket, self.inputs)]

    def statements(self) -> list[iam.PolicyStatement]:
        """What the endpoint's role needs: to read a benchmark's requests, write results, and tell the topics."""
        read = iam.PolicyStatement(actions=["s3:GetObject"], resources=[self.bucket.arn_for_objects(self.inputs)])
        found = [read, *write_statements(self.bucket, self.prefix)]
        if self.failure_prefix is not None:
            found += write_statements(self.bucket, self.failure_prefix)
        topics = [topic.topic_arn for topic in (self.success_topic, self.error_topic) if topic is not None]
        if topics:
            found.append(iam.PolicyStatement(actions=["sns:Publish"], resources=topics))
        return found

    def asking(self) -> list[iam.PolicyStatement]:
        """What a benchmark's function needs: to write its requests, and to read replies and failures as they come.

        Without the right to list the bucket, S3 says of what is not there yet that it is forbidden.
        """
        bucket = self.bucket
        results = [keys for _, keys in self.objects() if keys != self.inputs]
        found = [
            iam.PolicyStatement(actions=["s3:PutObject"], resources=[bucket.arn_for_objects(self.inputs)]),
            iam.PolicyStatement(actions=["s3:GetObject"], resources=[bucket.arn_for_objects(keys) for keys in results]),
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[bucket.bucket_arn]),
        ]
        if bucket.encryption_key is not None:
            key = bucket.encryption_key.key_arn
            found.append(iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[key]))
        return found


def write_statements(bucket: s3.IBucket, prefix: str) -> list[iam.PolicyStatement]:
    """To write objects below a prefix, under the bucket's key."""
    found = [iam.PolicyStatement(actions=["s3:PutObject"], resources=[bucket.arn_for_objects(f"{prefix}*")])]
    if bucket.encryption_key is not None:
        key = bucket.encryption_key.key_arn
        found.append(iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[key]))
    return found
