"""Container: an image, its files and its environment, as a Model has them. Not the machine: capacity.py.

Limits: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ContainerDefinition.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker

from heavylift_cdk.bounds import named
from heavylift_cdk.model_data import ModelData
from heavylift_cdk.runtime_image import RuntimeImage
from heavylift_cdk.values import is_token

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_s3 as s3
    from aws_cdk import aws_secretsmanager as secretsmanager

MOST_VARIABLES, LONGEST_VALUE = 100, 1024
SECRET = re.compile(r"(?i)(^|_)(token|secret|password|passwd|api_?key|access_?key|credentials?)($|_)")
"""Variables whose value should be no plain text; one that ends in _ARN names a secret and holds none."""
HARMLESS = re.compile(r"(?i)true|false|-?\d*")


@dataclass(frozen=True)
class Container:
    """`secrets` travel as <NAME>_SECRET_ARN, and the container reads their values with the endpoint's role."""

    image: RuntimeImage
    data: ModelData | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, secretsmanager.ISecret] = field(default_factory=dict)
    hostname: str | None = None
    image_access: Literal["platform", "vpc"] = "platform"
    cache_models: bool = True
    """Of a multi-model container: keep loaded models in memory."""

    @property
    def variables(self) -> dict[str, str]:
        """The whole environment."""
        return {**self.environment, **{f"{name}_SECRET_ARN": each.secret_arn for name, each in self.secrets.items()}}

    def faults(self) -> Iterator[str]:
        """Everything that SageMaker would refuse, and secrets in plain text."""
        yield from named("hostname", self.hostname)
        if len(self.variables) > MOST_VARIABLES:
            yield f"a container has at most {MOST_VARIABLES} environment variables: got {len(self.variables)}"
        for name, value in self.variables.items():
            if not is_token(value) and max(len(name), len(value)) > LONGEST_VALUE:
                yield f"environment variable '{name[:40]}' has more than {LONGEST_VALUE} characters"
        for name, value in self.environment.items():
            if SECRET.search(name) and not name.endswith("_ARN") and HARMLESS.fullmatch(value) is None:
                yield (
                    f"'{name}' must not be plain text in the environment, where DescribeModel shows it: "
                    f"give a Secrets Manager secret in 'secrets'"
                )

    def render(self, uri: str) -> sagemaker.CfnModel.ContainerDefinitionProperty:
        """The Model's property; `uri` is the image's in this stack."""
        many = self.data is not None and self.data.kind == "archives"
        return sagemaker.CfnModel.ContainerDefinitionProperty(
            image=uri,
            environment=self.variables,
            container_hostname=self.hostname,
            mode="MultiModel" if many else None,
            model_data_source=self.data.source() if self.data is not None and not many else None,
            model_data_url=self.data.uri if self.data is not None and many else None,
            multi_model_config=_cache(self.cache_models) if many else None,
            image_config=_FROM_VPC if self.image_access == "vpc" else None,
        )

    def objects(self) -> list[tuple[s3.IBucket, str]]:
        """The keys that `statements` name with a `*`."""
        return [] if self.data is None or self.data.granted else self.data.objects()

    def statements(self) -> list[iam.PolicyStatement]:
        """What the endpoint's role needs for it: to read its data and its secrets."""
        found = [] if self.data is None or self.data.granted else self.data.statements()
        for secret in self.secrets.values():
            found.append(
                iam.PolicyStatement(
                    actions=["secretsmanager:GetSecretValue"], resources=[secret.secret_full_arn or secret.secret_arn]
                )
            )
            if secret.encryption_key is not None:
                found.append(iam.PolicyStatement(actions=["kms:Decrypt"], resources=[secret.encryption_key.key_arn]))
        return found


_FROM_VPC = sagemaker.CfnModel.ImageConfigProperty(repository_access_mode="Vpc")


def _cache(on: bool) -> sagemaker.CfnModel.MultiModelConfigProperty:
    return sagemaker.CfnModel.MultiModelConfigProperty(model_cache_setting="Enabled" if on else "Disabled")
