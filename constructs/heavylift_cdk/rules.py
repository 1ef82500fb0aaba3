"""Rules: what an app should not do with SageMaker, one small function each, for `Aspects.of(app).add(Rules())`.

Not cdk-nag, which knows one rule about endpoints; not the constructs' own refusals, which come sooner: these see
resources that somebody wrote by hand, too. An aspect costs a call from Node to Python for each construct of the app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jsii
from aws_cdk import Annotations, IAspect, Stack, Token
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import IConstruct

from heavylift.plan.facts import instances
from heavylift_cdk.checks import shown
from heavylift_cdk.container import HARMLESS, SECRET

Rule = Callable[[Any], Iterator[str]]


def replaceable(resource: sagemaker.CfnModel | sagemaker.CfnEndpointConfig) -> Iterator[str]:
    """Every property is create-only: an update makes a second one, which cannot have the same name."""
    name = resource.model_name if isinstance(resource, sagemaker.CfnModel) else resource.endpoint_config_name
    if name is not None:
        yield f"give it no name: got '{name}', and CloudFormation refuses to replace a resource that has one"


def not_everything(role: iam.CfnRole) -> Iterator[str]:
    """A role for one endpoint needs no full access."""
    for each in _listed(Stack.of(role).resolve(role.managed_policy_arns)):
        if (arn := shown(each)).endswith("FullAccess"):
            yield f"grant what is needed in place of {arn.rsplit('/', 1)[-1]}; ExecutionRole shows what that is"


def no_plain_secrets(model: sagemaker.CfnModel) -> Iterator[str]:
    """DescribeModel shows the environment to whoever may call it."""
    for container in (model.primary_container, *_listed(model.containers)):
        for name, value in (_member(container, "environment") or {}).items():
            if SECRET.search(name) and not name.endswith("_ARN") and HARMLESS.fullmatch(str(value)) is None:
                yield f"'{name}' must not be plain text in the environment: name a Secrets Manager secret"


def folders(model: sagemaker.CfnModel) -> Iterator[str]:
    """A prefix without its slash takes other models' files along."""
    for container in (model.primary_container, *_listed(model.containers)):
        source = _member(_member(container, "model_data_source"), "s3_data_source")
        uri = _member(source, "s3_uri")
        if _member(source, "s3_data_type") == "S3Prefix" and uri is not None and not uri.endswith("/"):
            yield f"an S3Prefix ends with '/': got '{uri}'"


def local_disks(config: sagemaker.CfnEndpointConfig) -> Iterator[str]:
    """SageMaker refuses a volume beside a local disk, and does not encrypt that disk with the volumes' key."""
    for variant in _listed(config.production_variants):
        fact = instances().get(_member(variant, "instance_type") or "")
        if fact is None or not fact.nvme:
            continue
        if _member(variant, "volume_size_in_gb") is not None:
            yield f"'volume_size_in_gb' must be left out on {fact.type}, which has a disk of its own"
        if config.kms_key_id is not None:
            yield f"'kms_key_id' does not cover the local disk of {fact.type}, which has a key of its own"


def comes_back(endpoint: sagemaker.CfnEndpoint) -> Iterator[str]:
    """Without alarms, an update that answers wrongly but healthily stays."""
    if _member(_member(endpoint, "deployment_config"), "auto_rollback_configuration") is None:
        yield "no alarm takes an update back: give the roll-out alarms, or a gate"


ERRORS: dict[type[Any], tuple[Rule, ...]] = {
    sagemaker.CfnModel: (replaceable, no_plain_secrets, folders),
    sagemaker.CfnEndpointConfig: (replaceable,),
    iam.CfnRole: (not_everything,),
}
WARNINGS: dict[type[Any], tuple[Rule, ...]] = {
    sagemaker.CfnEndpointConfig: (local_disks,),
    sagemaker.CfnEndpoint: (comes_back,),
}


@jsii.implements(IAspect)
class Rules:
    """Errors end the synthesis; warnings, named `heavylift:<rule>`, can be acknowledged."""

    def visit(self, node: IConstruct) -> None:
        """Look at one construct."""
        for rule in ERRORS.get(type(node), ()):
            for sentence in rule(node):
                Annotations.of(node).add_error(f"{sentence} (heavylift:{rule.__name__})")
        for rule in WARNINGS.get(type(node), ()):
            for sentence in rule(node):
                Annotations.of(node).add_warning_v2(f"heavylift:{rule.__name__}", sentence)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _member(value: Any, name: str) -> Any:
    """A member of a property, said as a struct or as a dictionary of either case; None where it is not known yet."""
    if isinstance(value, dict):
        camel = "".join(part.capitalize() for part in name.split("_"))
        return value.get(name, value.get(camel[0].lower() + camel[1:]))
    return None if value is None or Token.is_unresolved(value) else getattr(value, name, None)
