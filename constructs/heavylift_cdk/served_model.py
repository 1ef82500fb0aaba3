"""served_model: a SageMaker Model: its containers, the role that they run with, their network. Not where it runs."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_iam as iam
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from heavylift_cdk.access import Access
from heavylift_cdk.container import Container
from heavylift_cdk.network import Network
from heavylift_cdk.runtime_image import PULL, BoundImage
from heavylift_cdk.values import allowed, constant


def served_model(
    scope: Construct,
    id: str,
    *,
    containers: Sequence[Container],
    role: iam.IRole,
    access: Access,
    network: Network | None,
    isolated: bool,
    pulls_assets: bool,
) -> sagemaker.CfnModel:
    """A Model that waits for the role's rights. `pulls_assets`: the role may pull the CDK's own images already.

    Several containers are an inference pipeline where none has a hostname, else each is invoked by its own.
    """
    bound = [_bound(scope, f"{id}{number}", each) for number, each in enumerate(containers)]
    rendered = [each.render(image.uri) for each, image in zip(containers, bound, strict=True)]
    for each, image in zip(containers, bound, strict=True):
        access.add(each.statements(), each.objects())
        if not (image.is_asset and pulls_assets):
            access.add([allowed(PULL, [image.repository_arn])])
    direct = len(containers) > 1 and all(each.hostname is not None for each in containers)
    model = sagemaker.CfnModel(
        scope,
        id,
        execution_role_arn=constant(role, "role_arn"),
        enable_network_isolation=isolated,
        primary_container=rendered[0] if len(rendered) == 1 else None,
        containers=rendered if len(rendered) > 1 else None,
        inference_execution_config=sagemaker.CfnModel.InferenceExecutionConfigProperty(mode="Direct")
        if direct
        else None,
        vpc_config=None
        if network is None
        else sagemaker.CfnModel.VpcConfigProperty(
            subnets=list(network.subnets), security_group_ids=list(network.security_groups)
        ),
    )
    access.before(model)
    for image in bound:
        if image.after is not None:
            model.node.add_dependency(image.after)
    return model


def _bound(scope: Construct, id: str, container: Container) -> BoundImage:
    """The image in this stack, in a place of the container's own."""
    return container.image.bind(Construct(scope, id))
