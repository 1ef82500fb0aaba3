"""Access: the rights of an execution role that one construct asks for, as one policy, before what needs them.

Not the role: that may be another stack's, whose template must not change with the models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam
from constructs import Construct, IConstruct

from heavylift_cdk.checks import acknowledge, acknowledge_objects

if TYPE_CHECKING:  # their import takes time, and no value of theirs is used here
    from aws_cdk import aws_s3 as s3

    from heavylift_cdk.network import Network


class Access:
    """Collects statements for `role`; the policy is made with the first."""

    def __init__(self, scope: Construct, role: iam.IRole) -> None:
        self._scope, self._role = scope, role
        self._policy: iam.Policy | None = None

    def add(self, statements: Sequence[iam.PolicyStatement], objects: Iterable[tuple[s3.IBucket, str]] = ()) -> None:
        """Let the role do more; `objects` are the keys, such as "weights/a1/*", that they name."""
        if statements and self._policy is None:
            self._policy = iam.Policy(self._scope, "Access", roles=[self._role], statements=list(statements))
        elif statements and self._policy is not None:
            self._policy.add_statements(*statements)
        for bucket, keys in objects:
            assert self._policy is not None, "a statement names them"
            acknowledge_objects(self._policy, bucket, keys, "what is below it is one model, or one endpoint's own")

    def attach(self, network: Network) -> None:
        """Let the role give containers their place in a VPC."""
        self.add(network.statements())
        assert self._policy is not None
        reason = "these actions, which attach a container to its VPC, know no resource"
        acknowledge(self._policy, "IAM5[Resource::*]", reason)

    def before(self, resource: IConstruct) -> None:
        """SageMaker refuses what needs a right that the role has not yet: its policies go first."""
        resource.node.add_dependency(self._role, *([] if self._policy is None else [self._policy]))
